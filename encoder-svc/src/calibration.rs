//! Calibration at startup: how fast this machine runs a text, on one thread and on all cores.
//!
//! How much all cores gain depends on the machine: two physical cores gain 40 %, a processor with
//! matrix units 8 %, and two hyper-threads of one core nothing. Where they gain little, their
//! synchronisation costs more than it saves once other work needs a core.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// All cores are used if they are at least this many times as fast as one thread.
pub(crate) const LEAST_GAIN: f64 = 1.15;
/// The fewest and the most runs of each kind.
const ROUNDS: std::ops::RangeInclusive<usize> = 3..=15;
/// No round begins after this time, once there are enough. The service is not ready meanwhile.
const ENOUGH_TIME: Duration = Duration::from_millis(400);

/// Whether a lone online text runs on all cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllCoreWorker {
    /// If the calibration finds that it is faster.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The speed of this machine, as measured at startup.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// The time of a reference text on one thread, the median of the runs.
    pub one_thread: Duration,
    /// The same on all cores; `None` if it was not measured.
    pub all_cores: Option<Duration>,
    /// Whether a lone online text runs on all cores.
    pub uses_all_cores: bool,
}

impl Calibration {
    /// Decides whether a lone online text runs on all cores.
    #[must_use]
    pub fn new(one_thread: Duration, all_cores: Option<Duration>, setting: AllCoreWorker) -> Self {
        let wins = |all_cores: Duration| all_cores.mul_f64(LEAST_GAIN) <= one_thread;
        let uses_all_cores = match setting {
            AllCoreWorker::Auto => all_cores.is_some_and(wins),
            AllCoreWorker::On => all_cores.is_some(),
            AllCoreWorker::Off => false,
        };
        Self { one_thread, all_cores, uses_all_cores }
    }
}

/// A measured run.
type Run<'a> = &'a mut dyn FnMut() -> Result<Duration, String>;

/// Runs a text in turns on one thread and on all cores, if it can run there.
pub(crate) fn calibrate(
    one_thread: Run<'_>,
    all_cores: Option<Run<'_>>,
    setting: AllCoreWorker,
) -> Result<Calibration, String> {
    let Some(all_cores) = all_cores else {
        let [one_thread] = medians([one_thread])?;
        return Ok(Calibration::new(one_thread, None, setting));
    };
    let [one_thread, all_cores] = medians([one_thread, all_cores])?;
    Ok(Calibration::new(one_thread, Some(all_cores), setting))
}

/// Measures each kind once a round, so that a machine that becomes slower slows all of them. A run
/// before it, which does not count, finds the threads and caches of another kind.
fn medians<const KINDS: usize>(mut kinds: [Run<'_>; KINDS]) -> Result<[Duration; KINDS], String> {
    let begin = Instant::now();
    let mut times = [(); KINDS].map(|()| Vec::with_capacity(*ROUNDS.end()));
    for round in 0..*ROUNDS.end() {
        if round >= *ROUNDS.start() && begin.elapsed() > ENOUGH_TIME {
            break;
        }
        for (times, kind) in times.iter_mut().zip(&mut kinds) {
            kind()?;
            times.push(kind()?);
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses_all_cores(all_cores_ms: Option<u64>, setting: AllCoreWorker) -> bool {
        let all_cores = all_cores_ms.map(Duration::from_millis);
        Calibration::new(Duration::from_millis(100), all_cores, setting).uses_all_cores
    }

    #[test]
    fn uses_all_cores_only_where_they_win_by_15_percent() {
        assert!(uses_all_cores(Some(60), AllCoreWorker::Auto));
        assert!(uses_all_cores(Some(86), AllCoreWorker::Auto));
        assert!(!uses_all_cores(Some(88), AllCoreWorker::Auto));
        assert!(!uses_all_cores(Some(130), AllCoreWorker::Auto));
        assert!(!uses_all_cores(None, AllCoreWorker::Auto));
    }

    #[test]
    fn the_setting_overrides_the_measurement() {
        assert!(uses_all_cores(Some(130), AllCoreWorker::On));
        assert!(!uses_all_cores(Some(60), AllCoreWorker::Off));
        assert!(!uses_all_cores(None, AllCoreWorker::On));
    }

    #[test]
    fn a_few_disturbed_runs_do_not_count() {
        let mut run = 0;
        let [time] = medians([&mut || {
            run += 1;
            Ok(Duration::from_millis(if run % 3 == 0 { 90 } else { 5 }))
        }])
        .unwrap();
        assert_eq!((time, run), (Duration::from_millis(5), 2 * *ROUNDS.end()));
    }

    #[test]
    fn a_slow_machine_runs_few_rounds() {
        let mut run = 0;
        let slow = &mut || {
            run += 1;
            std::thread::park_timeout(ENOUGH_TIME / 2);
            Ok(ENOUGH_TIME / 2)
        };
        medians([slow]).unwrap();
        assert_eq!(run, 2 * *ROUNDS.start());
    }

    #[test]
    fn a_run_that_fails_ends_the_calibration() {
        assert_eq!(medians([&mut || Err("no memory".to_owned())]), Err("no memory".to_owned()));
    }
}
