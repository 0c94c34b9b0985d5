//! Runs many seeds, each in its own process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::ledger::Report;

/// How to run seeds.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The path of `simulate-one`.
    pub program: PathBuf,
    /// Arguments of every run.
    pub arguments: Vec<String>,
    /// Processes at the same time.
    pub jobs: usize,
}

/// The results of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// Reports, in order of their seeds.
    pub reports: Vec<Report>,
    /// The reasons of runs without a report, by seed.
    pub broken: BTreeMap<u64, String>,
}

impl Runner {
    /// Runs one seed.
    pub fn run_one(&self, seed: u64) -> Result<Report, String> {
        let output = Command::new(&self.program)
            .arg("--seed")
            .arg(seed.to_string())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let log = String::from_utf8_lossy(&output.stderr);
            let end: Vec<_> = log.lines().rev().take(12).collect();
            format!("{}: {}", output.status, end.into_iter().rev().collect::<Vec<_>>().join("\n"))
        })
    }

    /// Runs all seeds, and passes each result to `report` as it arrives.
    pub fn run(&self, seeds: &[u64], mut report: impl FnMut(u64, &Result<Report, String>)) -> Summary {
        let next = AtomicUsize::new(0);
        let (sender, results) = mpsc::channel();
        let mut summary = Summary::default();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if sender.send((*seed, self.run_one(*seed))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (seed, result) in results {
                report(seed, &result);
                match result {
                    Ok(found) => summary.reports.push(found),
                    Err(reason) => drop(summary.broken.insert(seed, reason)),
                }
            }
        });
        summary.reports.sort_by_key(|report| report.seed);
        summary
    }
}

impl Summary {
    /// Seeds whose run broke a promise or gave no report.
    #[must_use]
    pub fn failed(&self) -> Vec<u64> {
        let violating = self.reports.iter().filter(|report| !report.violations.is_empty());
        let mut seeds: Vec<_> =
            violating.map(|report| report.seed).chain(self.broken.keys().copied()).collect();
        seeds.sort_unstable();
        seeds
    }

    /// The sums of the counts of all runs.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (name, count) in self.reports.iter().flat_map(|report| &report.counts) {
            *sums.entry(name.clone()).or_default() += count;
        }
        sums
    }

    /// All violations and missing reports, as text.
    #[must_use]
    pub fn complaints(&self) -> String {
        let mut lines = Vec::new();
        for report in self.reports.iter().filter(|report| !report.violations.is_empty()) {
            lines.push(format!("seed {} (make simulate SEED={}):", report.seed, report.seed));
            lines.extend(report.violations.iter().map(|violation| format!("  {violation}")));
        }
        for (seed, reason) in &self.broken {
            lines.push(format!("seed {seed} (make simulate SEED={seed}) gave no report: {reason}"));
        }
        lines.join("\n")
    }
}

/// The path of `simulate-one` in the folder of this program.
#[must_use]
pub fn sibling(program: &Path) -> PathBuf {
    program.with_file_name("simulate-one")
}
