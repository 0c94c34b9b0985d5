//! Whether a lone text runs on all cores, judged again while the encoder runs.
//!
//! The calibration at startup sees 200 ms of the machine. Later a neighbour may take a core or leave
//! one. So the reserved worker times its runs. One text in [`PROBE_EVERY`] runs on the cores that
//! are not chosen, which keeps both times up to date and stays below the 99th percentile.

use std::time::Duration;

use crate::calibration::{Calibration, LEAST_GAIN};
use crate::metrics::Cores;

const PROBE_EVERY: u32 = 128;
/// All cores that are in use are given up below this gain. It is smaller than the gain that is
/// needed to use them, so that the choice does not alternate.
const KEPT_GAIN: f64 = 1.1;
/// The weight of one run in the moving averages.
const WEIGHT: f64 = 1.0 / 8.0;
/// The most by which one run may differ from the average, so that a stall does not decide.
const MOST: f64 = 2.0;
/// The fixed cost of a run, in tokens.
const FIXED_TOKENS: usize = 8;

/// Chooses the cores of lone texts.
#[derive(Debug)]
pub(crate) struct CoreChoice {
    chosen: Cores,
    /// Seconds for each token.
    one_core: f64,
    all_cores: f64,
    texts: u32,
}

impl CoreChoice {
    /// Begins with what the calibration found for a text of `tokens` tokens. Returns `None` if it did
    /// not measure all cores.
    pub(crate) fn new(calibration: &Calibration, tokens: usize) -> Option<Self> {
        let seconds = |took: Duration| took.as_secs_f64().max(1e-9) / (FIXED_TOKENS + tokens) as f64;
        let chosen = if calibration.uses_all_cores { Cores::All } else { Cores::One };
        Some(Self {
            chosen,
            one_core: seconds(calibration.one_thread),
            all_cores: seconds(calibration.all_cores?),
            texts: 0,
        })
    }

    /// The cores of the next lone text.
    pub(crate) fn next(&mut self) -> Cores {
        self.texts = self.texts.wrapping_add(1);
        match self.chosen {
            Cores::One if self.texts.is_multiple_of(PROBE_EVERY) => Cores::All,
            Cores::All if self.texts.is_multiple_of(PROBE_EVERY) => Cores::One,
            chosen => chosen,
        }
    }

    /// Learns that a text of `tokens` tokens took `took`. Returns the new choice if it changes.
    pub(crate) fn learn(&mut self, cores: Cores, tokens: usize, took: Duration) -> Option<Cores> {
        let average = match cores {
            Cores::One => &mut self.one_core,
            Cores::All => &mut self.all_cores,
        };
        let seen = took.as_secs_f64() / (FIXED_TOKENS + tokens) as f64;
        *average += (seen.clamp(*average / MOST, *average * MOST) - *average) * WEIGHT;
        let least = match self.chosen {
            Cores::One => LEAST_GAIN,
            Cores::All => KEPT_GAIN,
        };
        let wins = self.all_cores * least <= self.one_core;
        let chosen = if wins { Cores::All } else { Cores::One };
        let changes = chosen != self.chosen;
        self.chosen = chosen;
        changes.then_some(chosen)
    }
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

    /// Runs lone texts that take these milliseconds. Returns how many ran on all cores, and the
    /// choices that changed.
    fn run(choice: &mut CoreChoice, texts: usize, time: impl Fn(Cores, usize) -> f64) -> (usize, Vec<Cores>) {
        let (mut on_all_cores, mut changes) = (0, Vec::new());
        for text in 0..texts {
            let cores = choice.next();
            on_all_cores += usize::from(cores == Cores::All);
            // Lengths differ, and times in proportion.
            let tokens = 42 + text * 37 % 101;
            let took = time(cores, text) * (FIXED_TOKENS + tokens) as f64 / 100.0;
            changes.extend(choice.learn(cores, tokens, Duration::from_secs_f64(took / 1e3)));
        }
        (on_all_cores, changes)
    }

    fn steady(cores: Cores, one_core_ms: f64, all_cores_ms: f64) -> f64 {
        if cores == Cores::One { one_core_ms } else { all_cores_ms }
    }

    #[test]
    fn a_steady_machine_keeps_the_choice_of_the_calibration() {
        for (all_cores_ms, on_all_cores) in [(6.0, 9_922), (9.0, 78)] {
            let found = run(&mut choice(all_cores_ms), 10_000, |cores, _| steady(cores, 10.0, all_cores_ms));
            assert_eq!(found, (on_all_cores, vec![]));
        }
    }

    #[test]
    fn gives_all_cores_up_once_a_neighbour_takes_one_and_uses_them_again_when_it_leaves() {
        let mut choice = choice(6.0);
        let (on_all_cores, changes) = run(&mut choice, 200, |cores, _| steady(cores, 11.0, 25.0));
        assert_eq!(changes, [Cores::One]);
        assert!(on_all_cores < 10, "{on_all_cores}");
        let (on_all_cores, changes) = run(&mut choice, 4_000, |cores, _| steady(cores, 10.0, 6.0));
        assert_eq!(changes, [Cores::All]);
        assert!(on_all_cores > 2_000, "{on_all_cores}");
    }

    #[test]
    fn a_stall_does_not_change_the_choice() {
        let stalls = |cores, text| if text % 100 == 50 { 900.0 } else { steady(cores, 10.0, 6.0) };
        assert_eq!(run(&mut choice(6.0), 10_000, stalls).1, []);
    }

    #[test]
    fn a_gain_between_the_two_bounds_does_not_make_it_alternate() {
        let noisy = |cores, text: usize| {
            steady(cores, 10.0, 8.85) * (0.98 + 0.04 * (text as f64 * 0.618_033_988_75).fract())
        };
        assert!(run(&mut choice(8.5), 20_000, noisy).1.len() <= 1);
        assert!(run(&mut choice(9.2), 20_000, noisy).1.len() <= 1);
    }
}
