//! `encoder-svc serve` and `encoder-svc healthcheck`.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use encoder_svc::config::ENVIRONMENT_PREFIX;
use encoder_svc::{EncoderSvcConfig, EncoderSvcSettings};
use service_kit::{
    HealthcheckArgs, Listeners, Overrides, init_telemetry, load_settings, print, print_settings,
    run_command_on_threads, shutdown_on_signals,
};

/// This allocator returns memory to the system after peaks, such as thousands of connections, or
/// loading a graph, which takes several times its size. ONNX Runtime allocates from it too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Encode texts as vectors over gRPC.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve movieclassifier.encoder.v1.EncoderService until SIGTERM or Ctrl-C.
    Serve(ServeArgs),
    /// Exit with 0 if a running service reports that it serves, otherwise with 1.
    Healthcheck {
        /// URL of the running service.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051")]
        address: String,
        #[command(flatten)]
        args: HealthcheckArgs,
    },
}

#[derive(Args)]
struct ServeArgs {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address of the HTTP listener for /v1/embeddings, /livez, /readyz and /metrics; "" disables it
    /// [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_listen: Option<String>,
    /// Folder of the encoder bundle [default: .runtime/bundles/minilm-512].
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<String>,
    /// Shared library of ONNX Runtime [default: $ORT_DYLIB_PATH or .runtime/lib/libonnxruntime.so].
    #[arg(long, value_name = "FILE")]
    runtime_library: Option<String>,
    /// Number of sessions, each of one thread; 0 means one for each core [default: 0].
    #[arg(long, value_name = "N")]
    sessions: Option<u64>,
    /// Print the effective settings as a settings file, without secrets, and exit.
    #[arg(long)]
    print_config: bool,
    /// Log format, text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

const EXAMPLES: &str = "Every setting has a key in the settings file and an environment variable (ENCODER_SVC_LISTEN, \
ENCODER_SVC_ENCODER__BUNDLE, …); common settings also have a flag. A flag overrides a variable, and a variable overrides \
the file.

Examples:
  encoder-svc serve
  encoder-svc serve --listen 0.0.0.0:50051 --sessions 4
  ENCODER_SVC_LIMITS__MAX_BATCH_SIZE=64 encoder-svc serve --log-format json";

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => {
            // The number of threads of the runtime is a setting, so the settings are read before
            // there is a runtime.
            let settings = args.settings();
            let threads = settings.as_ref().map_or(1, EncoderSvcSettings::call_threads);
            run_command_on_threads(threads, async { serve(args, settings?).await })
        }
        Command::Healthcheck { address, args } => {
            run_command_on_threads(1, async { args.run(&address).await })
        }
    }
}

impl ServeArgs {
    fn settings(&self) -> anyhow::Result<EncoderSvcSettings> {
        let flags = Overrides::default()
            .with("listen", self.listen.clone())
            .with("http.listen", self.http_listen.clone())
            .with("encoder.bundle", self.bundle.clone())
            .with("encoder.runtime_library", self.runtime_library.clone())
            .with("encoder.sessions", self.sessions)
            .with("log.format", self.log_format.clone());
        Ok(load_settings(ENVIRONMENT_PREFIX, self.config.as_deref(), flags)?)
    }
}

async fn serve(args: ServeArgs, settings: EncoderSvcSettings) -> anyhow::Result<()> {
    let printed = print_settings(&settings);
    let config = EncoderSvcConfig::try_from(settings)?;
    if args.print_config {
        return Ok(print(printed.trim_end())?);
    }
    let telemetry = init_telemetry("encoder-svc", &["encoder_svc"], &config.log, &config.trace)?;
    let shutdown = shutdown_on_signals()?;
    if let Some(file) = args.config.clone() {
        let filter = move || args.settings().map(|settings| settings.log.filter);
        tokio::spawn(telemetry.clone().follow_filter(file, filter, shutdown.clone()));
    }
    let listeners = Listeners::bind(config.listen, config.http_listen)?;
    encoder_svc::run(config, listeners, shutdown).await?;
    Ok(())
}
