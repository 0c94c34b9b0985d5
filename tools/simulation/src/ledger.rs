//! The record of a run: counts, a hash over all events, and every violation of a promise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// Violations that a report lists; one defect causes many.
const LISTED: usize = 20;

/// The result of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The run's seed.
    pub seed: u64,
    /// The hash over all events and their times; equal for runs of one seed.
    pub trace: String,
    /// The number of events.
    pub events: u64,
    /// The duration of the run in simulated milliseconds.
    pub simulated_ms: u64,
    /// Counts by name, such as `call:Classify:OK` or `fault:Crash`.
    pub counts: BTreeMap<String, u64>,
    /// Broken promises; a good run has none.
    pub violations: Vec<String>,
}

#[derive(Default)]
struct State {
    trace: Xxh3,
    report: Report,
    follow: bool,
}

/// The record of a run, which all its hosts share.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<State>>);

impl Ledger {
    /// An empty record; `follow` prints events as they happen.
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

    /// Records an event at simulated millisecond `at`.
    pub fn event(&self, at: u128, what: &str) {
        let mut state = self.lock();
        if state.follow {
            eprintln!("{at:>7} ms  {what}");
        }
        state.trace.update(&at.to_le_bytes());
        state.trace.update(what.as_bytes());
        state.report.events += 1;
    }

    /// Adds one to a count.
    pub fn count(&self, name: &str) {
        self.add(name, 1);
    }

    /// Adds to a count.
    pub fn add(&self, name: &str, many: u64) {
        *self.lock().report.counts.entry(name.to_owned()).or_default() += many;
    }

    /// Records a broken promise at simulated millisecond `at`.
    pub fn violation(&self, at: u128, what: &str) {
        self.event(at, &format!("VIOLATION {what}"));
        let mut state = self.lock();
        if state.report.violations.len() < LISTED {
            state.report.violations.push(format!("{at} ms: {what}"));
        }
    }

    /// The report so far.
    #[must_use]
    pub fn report(&self, simulated_ms: u64) -> Report {
        let state = self.lock();
        let trace = format!("{:032x}", state.trace.digest128());
        Report { trace, simulated_ms, ..state.report.clone() }
    }
}

/// Simulated milliseconds since the start of the run.
#[must_use]
pub fn now() -> u128 {
    turmoil::sim_elapsed().unwrap_or_default().as_millis()
}
