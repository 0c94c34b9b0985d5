//! Runs one seed and writes its report to standard output.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use rand_of_seed::SeedableRng as _;
use rand_of_seed::rngs::StdRng;
use simulation::ledger::{Ledger, Report};
use simulation::plan::Plan;
use simulation::sabotage::Sabotage;

/// Run one seed.
#[derive(Parser)]
struct Args {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// A defect to inject.
    #[arg(long)]
    sabotage: Option<Sabotage>,
    /// Stop an encoder that the name server still lists, instead of random faults.
    #[arg(long, conflicts_with = "sabotage")]
    stale_name: bool,
    /// Print events as they happen.
    #[arg(long)]
    follow: bool,
    /// Also print the services' logs, at this level.
    #[arg(long)]
    log: Option<String>,
}

static PANICS: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(level) = &args.log {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(level)
            .without_time()
            .with_writer(std::io::stderr)
            .try_init();
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
    // The folder's name is random; everything after it depends on the seed.
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("cannot create a folder for the run: {error}");
            return ExitCode::FAILURE;
        }
    };
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(args.seed));
    let path = folder.path().to_owned();
    // Hash maps draw their keys once per thread, so the run needs a new thread.
    let run = std::thread::spawn(move || simulate(&args, &path)).join();
    let Ok(report) = run else { return ExitCode::FAILURE };
    let healthy = report.violations.is_empty();
    match serde_json::to_string(&report) {
        Ok(json) => println!("{json}"),
        Err(error) => eprintln!("{error}"),
    }
    if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn simulate(args: &Args, folder: &std::path::Path) -> Report {
    let clocks = mad_turmoil::time::SimClocksGuard::init();
    let ledger = Ledger::new(args.seed, args.follow);
    let plan =
        if args.stale_name { Plan::with_a_stale_name(args.seed) } else { Plan::of(args.seed, args.sabotage) };
    let mut report = simulation::run::run(plan, folder, ledger);
    drop(clocks);
    let panics = PANICS.load(Ordering::Relaxed);
    if panics > 0 {
        report.violations.push(format!("{panics} panics"));
    }
    report
}
