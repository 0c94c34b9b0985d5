//! The type of a fuzz target.

use std::sync::{Mutex, PoisonError};

/// One reader of untrusted bytes, with the inputs that fuzzing starts from.
#[derive(Clone, Copy)]
pub struct Target {
    /// Name of the target, of its libFuzzer binary and of its folder in `corpus/`.
    pub name: &'static str,
    /// Panics if `data` breaks a promise.
    pub(crate) check: fn(&[u8]),
    /// Valid and almost valid inputs to mutate.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Fragments that mutations insert.
    pub dictionary: &'static [&'static str],
    /// Longest useful input, in bytes.
    pub max_len: usize,
    /// Mutations per test run, which take about two seconds.
    pub cases: u32,
}

impl Target {
    /// Checks one input. Calls run one at a time, because allocations are counted for the whole
    /// process.
    ///
    /// # Panics
    /// If `data` breaks a promise.
    pub fn run(&self, data: &[u8]) {
        static EXCLUSIVE: Mutex<()> = Mutex::new(());
        let _exclusive = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
        (self.check)(data);
    }
}
