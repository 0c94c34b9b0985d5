//! Load on the encoder, measured against ONNX Runtime alone with the same texts and cores.
//!
//! `src/main.rs` measures the encoder on the CPU, `src/bin/load-generator-gpu.rs` on a GPU, and
//! `benches/bundles.rs` compares encoder bundles. This library holds the code that they share.
//!
//! Everything here panics on failure: a benchmark that cannot run has nothing to report.

pub mod collector;
pub mod figures;
pub mod load;
pub mod machine;
pub mod noise;
pub mod raw;
pub mod server;
pub mod texts;

/// The number of cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The allocator of encoder-svc, so that raw runs allocate as the service does.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
