//! Whether a service can answer calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that says whether a service is ready for calls; not ready at first. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets the flag.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Returns the flag.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
