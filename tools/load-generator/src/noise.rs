//! A competing process that uses cores in bursts, as a neighbour on the same machine does.

use std::io::Read as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cores;

/// The argument by which a benchmark starts itself as the competing process.
pub const COMPETE: &str = "--compete";

/// The shortest and the longest burst, and the same for the pause after it, in milliseconds.
const BURST: (u64, u64) = (30, 300);
const PAUSE: (u64, u64) = (50, 700);

/// The competing process. It ends with this value, or with the process that holds it.
pub struct Noise {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Noise {
    /// Starts this program again as the competing process.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .arg(COMPETE)
            .stdin(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let stdin = child.stdin.take();
        Self { child, stdin }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It may have ended already.
        let _ = self.child.wait();
    }
}

/// Competes for every second core until standard input ends, which it does when the parent process
/// ends in any way.
pub fn compete() {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for core in 0..cores().div_ceil(2) {
            let over = &over;
            scope.spawn(move || burn_in_bursts(core as u64, over));
        }
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        over.store(true, Ordering::Relaxed);
    });
}

/// Alternates bursts and pauses. Their lengths are the same in each run.
fn burn_in_bursts(seed: u64, over: &AtomicBool) {
    for (burst, pause) in lengths(seed) {
        let end = Instant::now() + burst;
        while Instant::now() < end {
            if over.load(Ordering::Relaxed) {
                return;
            }
            std::hint::spin_loop();
        }
        std::thread::park_timeout(pause);
    }
}

/// Lengths of bursts and pauses that look irregular.
fn lengths(seed: u64) -> impl Iterator<Item = (Duration, Duration)> {
    let between = |(from, to): (u64, u64), number: u64| {
        let part = (number as f64 * 0.618_033_988_75).fract();
        Duration::from_micros(((from as f64 + part * (to - from) as f64) * 1e3) as u64)
    };
    (0_u64..).map(move |number| {
        let number = seed * 1000 + number;
        (between(BURST, number), between(PAUSE, number * 7 + 3))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_take_between_a_quarter_and_a_half_of_a_core() {
        let within = |(from, to): (u64, u64), length: Duration| {
            (Duration::from_millis(from)..=Duration::from_millis(to)).contains(&length)
        };
        let lengths: Vec<_> = lengths(1).take(500).collect();
        assert!(lengths.iter().all(|(burst, pause)| within(BURST, *burst) && within(PAUSE, *pause)));
        let sum = |times: &mut dyn Iterator<Item = Duration>| times.sum::<Duration>().as_secs_f64();
        let bursts = sum(&mut lengths.iter().map(|(burst, _)| *burst));
        let pauses = sum(&mut lengths.iter().map(|(_, pause)| *pause));
        let part = bursts / (bursts + pauses);
        assert!((0.25..0.5).contains(&part), "{part}");
    }

    #[test]
    fn a_competitor_ends_when_it_is_told() {
        let over = AtomicBool::new(false);
        let begin = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| burn_in_bursts(0, &over));
            over.store(true, Ordering::Relaxed);
        });
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
