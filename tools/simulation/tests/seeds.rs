//! Fifty seeds without a violation, one run per seed, an encoder that stops while it is listed, and
//! the detection of deliberate defects.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use simulation::runner::{Runner, Summary};

/// The number of seeds; `make simulate SEEDS=1000` runs more.
const SEEDS: u64 = 50;

fn runner(arguments: &[&str]) -> Runner {
    Runner {
        program: env!("CARGO_BIN_EXE_simulate-one").into(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn run(seeds: impl Iterator<Item = u64>, arguments: &[&str]) -> Summary {
    runner(arguments).run(&seeds.collect::<Vec<_>>(), |_, _| {})
}

#[test]
fn keeps_every_promise_during_faults() {
    let summary = run(1..=SEEDS, &[]);
    assert!(summary.failed().is_empty(), "{}", summary.complaints());
    // An idle run would keep every promise too.
    let counts = summary.counts();
    let sum = |prefix: &str| -> u64 {
        counts.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, count)| count).sum()
    };
    assert!(sum("fault:") > 200, "{counts:#?}");
    assert!(sum("movie:classified") > 5_000 && sum("text:encoded") > 5_000, "{counts:#?}");
    assert_eq!(sum("bulk:encoded") + sum("bulk:resumed"), SEEDS, "{counts:#?}");
    assert!(sum("overload:in_time") > 2_000, "{counts:#?}");
    for kind in ["Crash", "Partition", "Hold", "Loss", "Garbage", "Model", "Generation", "Jump"] {
        assert!(sum(&format!("fault:{kind}")) > 0, "no {kind} in {SEEDS} seeds");
    }
}

#[test]
fn repeats_the_same_run_for_a_seed() {
    for seed in [1, 2, 3] {
        let (one, other) = (runner(&[]).run_one(seed).unwrap(), runner(&[]).run_one(seed).unwrap());
        assert_eq!(one, other);
        assert!(one.events > 100);
    }
    let traces = [1, 2].map(|seed| runner(&[]).run_one(seed).unwrap().trace);
    assert_ne!(traces[0], traces[1]);
}

#[test]
fn no_call_waits_for_an_encoder_that_has_stopped_and_is_still_listed() {
    let summary = run(1..=2, &["--stale-name"]);
    assert!(summary.failed().is_empty(), "{}", summary.complaints());
    let counts = summary.counts();
    assert!(counts["movie:classified"] > 1_000, "{counts:#?}");
    assert!(!counts.keys().any(|name| name.contains("UNREACHABLE")), "{counts:#?}");
}

/// Asserts that some of a few seeds end in a violation with these words.
fn is_detected(sabotage: &str, words: &str) {
    let summary = run(1..=4, &["--sabotage", sabotage]);
    assert!(summary.broken.is_empty(), "{}", summary.complaints());
    let mut violations = summary.reports.iter().flat_map(|report| &report.violations);
    assert!(violations.any(|violation| violation.contains(words)), "{sabotage}: {}", summary.complaints());
}

#[test]
fn detects_vectors_in_another_order() {
    is_detected("reorder", "a response of model");
}

#[test]
fn detects_foreign_vectors_under_the_expected_fingerprint() {
    is_detected("foreign-vectors", "that is of no model for this text");
}

#[test]
fn detects_a_response_that_states_another_model() {
    is_detected("other-model", "an unknown model version");
}

#[test]
fn detects_a_repeated_response() {
    is_detected("repeat-response", "has 2 responses");
}

#[test]
fn detects_a_missing_response() {
    is_detected("lose-response", "ended without an error after");
}

#[test]
fn detects_swapped_responses() {
    is_detected("swap-responses", "a response of model");
}

#[test]
fn detects_a_queue_that_one_caller_can_fill() {
    is_detected("one-queue", "instead of equal shares");
}

#[test]
fn detects_runs_that_never_end() {
    is_detected("hang-run", "has no response after");
}
