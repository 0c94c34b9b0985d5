//! Runs many seeds of the simulation, or one seed in detail.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use simulation::runner::{Runner, sibling};

/// Run the services over a simulated network with the faults of each seed.
#[derive(Parser)]
struct Args {
    /// The number of seeds.
    #[arg(long, default_value_t = 50)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run only this seed, and print its events.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Processes at the same time; 0 for one per core.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// The level of the services' logs on standard error, with --seed.
    #[arg(long, default_value = "warn")]
    log: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let program = match std::env::current_exe() {
        Ok(path) => sibling(&path),
        Err(error) => {
            eprintln!("cannot find the path of this program: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(seed) = args.seed {
        let status = std::process::Command::new(program)
            .args(["--seed", &seed.to_string(), "--follow", "--log", &args.log])
            .status();
        return if status.is_ok_and(|status| status.success()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if args.jobs == 0 { cores } else { args.jobs };
    let runner = Runner { program, arguments: Vec::new(), jobs };
    let seeds: Vec<_> = (args.first..args.first + args.seeds).collect();
    let begin = Instant::now();
    let mut done = 0;
    let summary = runner.run(&seeds, |seed, result| {
        done += 1;
        match result {
            Ok(report) if report.violations.is_empty() => {}
            Ok(report) => println!("seed {seed}: {}", report.violations.join("\n    ")),
            Err(reason) => println!("seed {seed} gave no report: {reason}"),
        }
        if done % 50 == 0 {
            println!("{done} of {} seeds after {:.0} s", seeds.len(), begin.elapsed().as_secs_f64());
        }
    });
    for (name, count) in summary.counts() {
        println!("{count:>10}  {name}");
    }
    let simulated: u64 = summary.reports.iter().map(|report| report.simulated_ms).sum();
    let failed = summary.failed();
    println!(
        "{} seeds, {} failed, {:.1} simulated hours in {:.0} s",
        seeds.len(),
        failed.len(),
        simulated as f64 / 3.6e6,
        begin.elapsed().as_secs_f64()
    );
    for seed in &failed {
        println!("to repeat: make simulate SEED={seed}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
