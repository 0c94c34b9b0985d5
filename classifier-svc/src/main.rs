//! The `classifier-svc` program; its commands are in [`cli`].
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

mod cli;

use std::process::ExitCode;

/// Returns memory to the system after thousands of connections have closed and after an embedded
/// encoder has loaded.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run()
}
