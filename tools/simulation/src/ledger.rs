//! What happened in a run: counts, the hash over all events, and every promise that was broken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// Broken promises that are told; a run that breaks one breaks many.
const TOLD: usize = 20;

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The run's seed.
    pub seed: u64,
    /// Hash over all events, with their times: the same seed gives the same.
    pub trace: String,
    /// Events in it.
    pub events: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Things that were counted, by name: `call:Classify:OK`, `fault:crash`.
    pub counts: BTreeMap<String, u64>,
    /// Promises that were broken; none in a good run.
    pub violations: Vec<String>,
}

#[derive(Default)]
struct State {
    trace: Xxh3,
    report: Report,
    follow: bool,
}

/// Shared by everything in a run.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<State>>);

impl Ledger {
    /// An empty one; `follow` prints events as they happen.
    #[must_use]
    pub fn new(seed: u64, follow: bool) -> Self {
        let ledger = Self::default();
        {
            let mut state = ledger.lock();
            state.report.seed = seed;
            state.follow = follow;
        }
        ledger
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened at simulated millisecond `at`.
    pub fn event(&self, at: u128, what: &str) {
        let mut state = self.lock();
        if state.follow {
            eprintln!("{at:>7} ms  {what}");
        }
        state.trace.update(&at.to_le_bytes());
        state.trace.update(what.as_bytes());
        state.report.events += 1;
    }

    /// One more of something.
    pub fn count(&self, name: &str) {
        self.add(name, 1);
    }

    /// Some more of something.
    pub fn add(&self, name: &str, many: u64) {
        *self.lock().report.counts.entry(name.to_owned()).or_default() += many;
    }

    /// A promise was broken.
    pub fn violation(&self, at: u128, what: &str) {
        self.event(at, &format!("VIOLATION {what}"));
        let mut state = self.lock();
        if state.report.violations.len() < TOLD {
            state.report.violations.push(format!("{at} ms: {what}"));
        }
    }

    /// Everything so far.
    #[must_use]
    pub fn report(&self, simulated_ms: u64) -> Report {
        let state = self.lock();
        let trace = format!("{:032x}", state.trace.digest128());
        Report { trace, simulated_ms, ..state.report.clone() }
    }
}

/// Simulated milliseconds since the run began.
#[must_use]
pub fn now() -> u128 {
    turmoil::sim_elapsed().unwrap_or_default().as_millis()
}
