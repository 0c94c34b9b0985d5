//! Everything that reads bytes which somebody else wrote, as functions `fn(&[u8])` that panic where a promise is broken.
//!
//! They are run in two ways: `tests/stable.rs` replays each target's seeds and corpus and some thousands of mutations of
//! them, in every test run; `make fuzz` lets libFuzzer look for inputs that reach new code. A promise is more than not to
//! panic: what is accepted is what was meant, what is refused says which field and why, and no input makes a reader ask for
//! more memory than its size explains.
//!
//! Seeds are made by code or written for it. What a campaign finds is minimised, mended, and kept in `corpus/`.

mod allocation;
mod bundle;
mod classify_request;
mod encode_request;
mod genres_field;
mod grpc;
mod model_file;
mod movies_csv;
mod request_headers;
mod rest_body;
mod sections;
mod services;
mod settings;
mod tokenizer;
mod vectors_file;

use std::sync::{Mutex, Once, PoisonError};

/// One reader of bytes from outside.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its fuzzer and of its folder in `corpus/`.
    pub name: &'static str,
    /// Panics if `data` breaks a promise.
    check: fn(&[u8]),
    /// Sound and nearly sound inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What inputs are made of, for mutations.
    pub words: &'static [&'static str],
    /// Longer inputs only take longer.
    pub max_len: usize,
    /// Mutations in a test run: about two seconds.
    pub cases: u32,
}

impl Target {
    /// Runs it, one at a time in a process, since what is allocated is counted for all threads together.
    pub fn run(&self, data: &[u8]) {
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        (self.check)(data);
    }
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    encode_request::TARGET,
    classify_request::TARGET,
    request_headers::TARGET,
    rest_body::TARGET,
    movies_csv::TARGET,
    genres_field::TARGET,
    model_file::TARGET,
    bundle::TARGET,
    vectors_file::TARGET,
    settings::TARGET,
    tokenizer::TARGET,
];

/// Runs the target of that name.
///
/// # Panics
/// If there is none, or if `data` breaks one of its promises.
pub fn run(name: &str, data: &[u8]) {
    // libFuzzer's own hook ends the process at any panic, also at one that is caught and made an error of, which is a promise
    // kept. One that is not caught ends the process without it. No stack is printed, which takes more memory than an input may.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("expected the name of a target, found {name:?}")).run(data);
}
