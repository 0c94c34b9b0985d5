//! Fuzz targets: every reader of untrusted bytes, as a function `fn(&[u8])` that panics where a
//! promise is broken.
//!
//! Two engines run them. `tests/stable.rs` replays the seeds, the corpus and thousands of mutations
//! in every test run. `make fuzz` lets libFuzzer search for inputs that reach new code. The
//! promises go further than not panicking: an accepted input means what it says, an error names the
//! field and the reason, and memory stays proportional to the input.
//!
//! Seeds are written by code. An input that broke a promise is minimised and kept in `corpus/`
//! after the fix.

mod harness;
mod target;
mod targets;

use std::sync::Once;

pub use target::Target;
pub use targets::TARGETS;

/// Runs the target called `name`, for libFuzzer.
///
/// # Panics
/// If no target has this name, or if `data` breaks a promise of the target.
pub fn run(name: &str, data: &[u8]) {
    // libFuzzer's own hook aborts on every panic, even one that the code under test catches and
    // turns into an error. An uncaught panic still aborts. No backtrace is printed: it takes more
    // memory than an input may.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("no fuzz target is called {name:?}")).run(data);
}
