//! Whether a lone text runs on all cores, judged again while the encoder runs.
//!
//! The calibration at startup sees 400 ms of the machine. Later a neighbour may take a core or leave
//! one. So the reserved worker times its runs, and now and then runs a few texts on the cores that
//! are not chosen. Beside bulk texts all cores gain less than on an idle machine, so there are two
//! choices.

use std::time::Duration;

use crate::calibration::{Calibration, LEAST_GAIN};
use crate::metrics::Cores;

/// Of this many lone texts, the last [`PROBES`] run on the cores that are not chosen. That is less
/// than one in a hundred, so the 99th percentile does not show them.
const PROBE_EVERY: u32 = 1024;
const PROBES: u32 = 9;
/// All cores that are in use are given up below this gain. It is smaller than the gain that is
/// needed to use them, so that the choice does not alternate.
const KEPT_GAIN: f64 = 1.1;
/// The runs whose median counts. Two series of probes are more than half of them.
const RECENT: usize = 31;
/// The fixed cost of a run, in tokens.
const FIXED_TOKENS: usize = 8;

/// Chooses the cores of lone texts.
#[derive(Debug)]
pub(crate) struct CoreChoice {
    idle: Choice,
    beside_bulk: Choice,
    /// Whether bulk texts ran when the current run began.
    bulk_runs: bool,
    /// The cores of the last run. After a change, the threads and caches of a session are cold, so
    /// that its first run says nothing about the next.
    last: Cores,
}

/// The choice in one situation.
#[derive(Debug, Clone)]
struct Choice {
    chosen: Cores,
    one_core: Recent,
    all_cores: Recent,
    texts: u32,
}

/// The seconds a token of the last runs. Their median ignores the odd run that a stall made long.
#[derive(Debug, Clone)]
struct Recent {
    runs: [f64; RECENT],
    next: usize,
}

impl CoreChoice {
    /// Begins with what the calibration found for a text of `tokens` tokens. Returns `None` if it did
    /// not measure all cores.
    pub(crate) fn new(calibration: &Calibration, tokens: usize) -> Option<Self> {
        let chosen = if calibration.uses_all_cores { Cores::All } else { Cores::One };
        let begin = Choice {
            chosen,
            one_core: Recent::new(seconds_a_token(calibration.one_thread, tokens)),
            all_cores: Recent::new(seconds_a_token(calibration.all_cores?, tokens)),
            texts: 0,
        };
        Some(Self { idle: begin.clone(), beside_bulk: begin, bulk_runs: false, last: chosen })
    }

    /// The cores of the next lone text. `bulk_runs` tells whether bulk texts run at the same time.
    pub(crate) fn next(&mut self, bulk_runs: bool) -> Cores {
        self.bulk_runs = bulk_runs;
        let choice = self.current();
        choice.texts = choice.texts.wrapping_add(1);
        match choice.chosen {
            Cores::One if choice.probes() => Cores::All,
            Cores::All if choice.probes() => Cores::One,
            chosen => chosen,
        }
    }

    /// Learns that the text of `tokens` tokens took `took`. Returns the new choice if it changes, and
    /// whether it is for texts beside bulk texts.
    pub(crate) fn learn(&mut self, cores: Cores, tokens: usize, took: Duration) -> Option<(Cores, bool)> {
        if std::mem::replace(&mut self.last, cores) != cores {
            return None;
        }
        let changed = self.current().learn(cores, seconds_a_token(took, tokens))?;
        Some((changed, self.bulk_runs))
    }

    fn current(&mut self) -> &mut Choice {
        if self.bulk_runs { &mut self.beside_bulk } else { &mut self.idle }
    }
}

impl Choice {
    fn probes(&self) -> bool {
        self.texts % PROBE_EVERY >= PROBE_EVERY - PROBES
    }

    fn learn(&mut self, cores: Cores, seconds: f64) -> Option<Cores> {
        match cores {
            Cores::One => self.one_core.push(seconds),
            Cores::All => self.all_cores.push(seconds),
        }
        let least = match self.chosen {
            Cores::One => LEAST_GAIN,
            Cores::All => KEPT_GAIN,
        };
        let wins = self.all_cores.median() * least <= self.one_core.median();
        let chosen = if wins { Cores::All } else { Cores::One };
        let changes = chosen != self.chosen;
        self.chosen = chosen;
        changes.then_some(chosen)
    }
}

impl Recent {
    fn new(seconds: f64) -> Self {
        Self { runs: [seconds; RECENT], next: 0 }
    }

    fn push(&mut self, seconds: f64) {
        self.runs[self.next] = seconds;
        self.next = (self.next + 1) % RECENT;
    }

    fn median(&self) -> f64 {
        let mut sorted = self.runs;
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[RECENT / 2]
    }
}

fn seconds_a_token(took: Duration, tokens: usize) -> f64 {
    took.as_secs_f64() / (FIXED_TOKENS + tokens) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::AllCoreWorker;

    const TOKENS: usize = 92;

    /// A choice at startup, where one core takes 10 ms and all cores take `all_cores_ms`.
    fn choice(all_cores_ms: f64) -> CoreChoice {
        let milliseconds = |time: f64| Duration::from_secs_f64(time / 1e3);
        let all_cores = Some(milliseconds(all_cores_ms));
        CoreChoice::new(&Calibration::new(milliseconds(10.0), all_cores, AllCoreWorker::Auto), TOKENS)
            .unwrap()
    }

    /// Runs lone texts that take these milliseconds, given the cores and which text it is. Returns
    /// how many ran on all cores, and the choices that changed.
    fn run_beside(
        choice: &mut CoreChoice,
        texts: usize,
        bulk_runs: impl Fn(usize) -> bool,
        time: impl Fn(Cores, usize) -> f64,
    ) -> (usize, Vec<(Cores, bool)>) {
        let (mut on_all_cores, mut changes) = (0, Vec::new());
        for text in 0..texts {
            let cores = choice.next(bulk_runs(text));
            on_all_cores += usize::from(cores == Cores::All);
            // Lengths differ, and times in proportion.
            let tokens = 42 + text * 37 % 101;
            let took = time(cores, text) * (FIXED_TOKENS + tokens) as f64 / 100.0;
            changes.extend(choice.learn(cores, tokens, Duration::from_secs_f64(took / 1e3)));
        }
        (on_all_cores, changes)
    }

    fn run(
        choice: &mut CoreChoice,
        texts: usize,
        time: impl Fn(Cores, usize) -> f64,
    ) -> (usize, Vec<(Cores, bool)>) {
        run_beside(choice, texts, |_| false, time)
    }

    fn steady(cores: Cores, one_core_ms: f64, all_cores_ms: f64) -> f64 {
        if cores == Cores::One { one_core_ms } else { all_cores_ms }
    }

    #[test]
    fn a_steady_machine_keeps_the_choice_of_the_calibration() {
        for (all_cores_ms, on_all_cores) in [(6.0, 9_919), (9.0, 81)] {
            let found = run(&mut choice(all_cores_ms), 10_000, |cores, _| steady(cores, 10.0, all_cores_ms));
            assert_eq!(found, (on_all_cores, vec![]));
        }
    }

    #[test]
    fn gives_all_cores_up_once_a_neighbour_takes_one_and_uses_them_again_when_it_leaves() {
        let mut choice = choice(6.0);
        let (on_all_cores, changes) = run(&mut choice, 200, |cores, _| steady(cores, 11.0, 25.0));
        assert_eq!(changes, [(Cores::One, false)]);
        assert!(on_all_cores < 20, "{on_all_cores}");
        let (on_all_cores, changes) = run(&mut choice, 4_000, |cores, _| steady(cores, 10.0, 6.0));
        assert_eq!(changes, [(Cores::All, false)]);
        assert!(on_all_cores > 2_100, "{on_all_cores}");
    }

    #[test]
    fn corrects_a_calibration_that_was_disturbed() {
        let (on_all_cores, changes) = run(&mut choice(9.0), 10_000, |cores, _| steady(cores, 10.0, 6.0));
        assert_eq!(changes, [(Cores::All, false)]);
        assert!(on_all_cores > 7_800, "{on_all_cores}");
    }

    #[test]
    fn a_stall_does_not_change_the_choice() {
        let stalls = |cores, text| if text % 100 == 50 { 900.0 } else { steady(cores, 10.0, 6.0) };
        assert_eq!(run(&mut choice(6.0), 10_000, stalls).1, []);
    }

    #[test]
    fn runs_of_very_different_speed_do_not_make_it_alternate() {
        let noisy = |cores, text: usize| {
            let noise = (text as f64 * 0.618_033_988_75).fract();
            steady(cores, 10.0, 7.5) * (0.7 + noise * noise * 1.5)
        };
        assert_eq!(run(&mut choice(7.5), 20_000, noisy).1, []);
        let between = |cores, text: usize| {
            steady(cores, 10.0, 8.85) * (0.98 + 0.04 * (text as f64 * 0.618_033_988_75).fract())
        };
        for calibrated in [8.5, 9.2] {
            assert!(run(&mut choice(calibrated), 20_000, between).1.len() <= 1);
        }
    }

    #[test]
    fn the_first_run_on_other_cores_does_not_count() {
        let mut last = Cores::All;
        let mut choice = choice(6.0);
        for text in 0..10_000 {
            let cores = choice.next(false);
            let cold = if cores == last { 1.0 } else { 1_000.0 };
            last = cores;
            let took = steady(cores, 10.0, 6.0) * cold;
            assert_eq!(choice.learn(cores, TOKENS, Duration::from_secs_f64(took / 1e3)), None, "{text}");
        }
        assert!(choice.idle.one_core.runs.iter().all(|seconds| *seconds < 1.0e-3));
    }

    /// Bulk texts come and go every 50 texts, and beside them all cores lose.
    #[test]
    fn texts_beside_bulk_have_a_choice_of_their_own() {
        let mut choice = choice(6.0);
        let bulk_runs = |text: usize| text / 50 % 2 == 1;
        let (on_all_cores, changes) = run_beside(&mut choice, 10_000, bulk_runs, |cores, text| {
            if bulk_runs(text) { steady(cores, 11.0, 25.0) } else { steady(cores, 10.0, 6.0) }
        });
        assert_eq!(changes, [(Cores::One, true)]);
        assert!((4_900..5_100).contains(&on_all_cores), "{on_all_cores}");
    }
}
