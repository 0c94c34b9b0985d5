//! The command `trainer`: arguments, logging, and the command that was asked for.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use service_kit::{Telemetry, TelemetrySettings, TraceSettings, init_telemetry};

fn main() -> ExitCode {
    let arguments = cli::args::Cli::parse();
    let outcome = start().and_then(|_running| cli::commands::run(arguments.command));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", service_kit::in_words(&error));
            ExitCode::FAILURE
        }
    }
}

/// Logs by `RUST_LOG`, traces by `OTEL_EXPORTER_OTLP_ENDPOINT`, which are sent from a runtime of their own, dropped last.
fn start() -> anyhow::Result<(Telemetry, tokio::runtime::Runtime)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let entered = runtime.enter();
    let log = TelemetrySettings { filter: "info".to_owned(), ..TelemetrySettings::default() };
    // A batch of texts is one trace, so that there are few of them.
    let trace = TraceSettings { sample_ratio: 1.0, ..TraceSettings::default() };
    let telemetry = init_telemetry("trainer", &log, &trace)?;
    drop(entered);
    Ok((telemetry, runtime))
}
