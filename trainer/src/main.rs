//! The command `trainer`: parses arguments, starts telemetry, runs a command.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use service_kit::{Telemetry, TelemetrySettings, TraceSettings, init_telemetry};

fn main() -> ExitCode {
    let arguments = cli::args::Cli::parse();
    let outcome = start().and_then(|_running| cli::commands::run(arguments.command));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => service_kit::report(&error),
    }
}

/// Starts logs (`RUST_LOG`) and traces (`OTEL_EXPORTER_OTLP_ENDPOINT`). Traces are sent from a
/// runtime of their own, which is dropped last.
fn start() -> anyhow::Result<(Telemetry, tokio::runtime::Runtime)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let entered = runtime.enter();
    let log = TelemetrySettings { filter: "info".to_owned(), ..TelemetrySettings::default() };
    // Each batch is one trace, so there are few enough to export them all.
    let trace = TraceSettings { sample_ratio: 1.0, ..TraceSettings::default() };
    let telemetry = init_telemetry("trainer", &["trainer", "encoder_client", "encoder_svc"], &log, &trace)?;
    drop(entered);
    Ok((telemetry, runtime))
}
