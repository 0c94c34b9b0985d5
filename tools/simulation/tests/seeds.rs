//! Fifty seeds, that a seed says everything, and that the simulation notices what it is there to notice.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use simulation::runner::{Runner, Summary};

/// The seeds of every change; `make simulate SEEDS=1000` runs more.
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
fn every_promise_is_kept_whatever_breaks() {
    let summary = run(1..=SEEDS, &[]);
    assert!(summary.failed().is_empty(), "{}", summary.complaints());
    // Runs in which nothing happens keep every promise, too.
    let counts = summary.counts();
    let sum = |prefix: &str| -> u64 {
        counts.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, count)| count).sum()
    };
    assert!(sum("fault:") > 200, "{counts:#?}");
    assert!(sum("movie:answered") > 5_000 && sum("text:answered") > 5_000, "{counts:#?}");
    assert_eq!(sum("bulk:encoded") + sum("bulk:resumed"), SEEDS, "{counts:#?}");
    for kind in ["Crash", "Partition", "Hold", "Loss", "Garbage", "Model", "Generation", "Jump"] {
        assert!(sum(&format!("fault:{kind}")) > 0, "no {kind} in {SEEDS} seeds");
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in [1, 2, 3] {
        let (one, other) = (runner(&[]).run_one(seed).unwrap(), runner(&[]).run_one(seed).unwrap());
        assert_eq!(one, other);
        assert!(one.events > 100);
    }
    let traces = [1, 2].map(|seed| runner(&[]).run_one(seed).unwrap().trace);
    assert_ne!(traces[0], traces[1]);
}

/// Some of a few seeds must end in a violation with these words.
fn is_noticed(sabotage: &str, words: &str) {
    let summary = run(1..=4, &["--sabotage", sabotage]);
    assert!(summary.broken.is_empty(), "{}", summary.complaints());
    let mut violations = summary.reports.iter().flat_map(|report| &report.violations);
    assert!(violations.any(|violation| violation.contains(words)), "{sabotage}: {}", summary.complaints());
}

#[test]
fn vectors_in_another_order_are_noticed() {
    is_noticed("reorder", "an answer of model");
}

#[test]
fn vectors_of_another_encoder_under_the_right_fingerprint_are_noticed() {
    is_noticed("foreign-vectors", "that is of no model for this text");
}

#[test]
fn an_answer_that_states_another_model_is_noticed() {
    is_noticed("other-model", "an unknown model version");
}

#[test]
fn an_answer_that_comes_twice_is_noticed() {
    is_noticed("answer-twice", "was answered 2 times");
}

#[test]
fn an_answer_that_never_comes_is_noticed() {
    is_noticed("lose-answer", "ended well with");
}

#[test]
fn answers_to_each_others_movies_are_noticed() {
    is_noticed("swap-answers", "an answer of model");
}

#[test]
fn sessions_that_never_come_back_are_noticed() {
    is_noticed("keep-text", "has no answer after");
}
