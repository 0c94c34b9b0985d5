//! `encoder-svc serve` and `encoder-svc healthcheck`.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use encoder_svc::config::ENVIRONMENT_PREFIX;
use encoder_svc::{EncoderSvcConfig, EncoderSvcSettings};
use service_kit::{
    HealthcheckArgs, Listeners, Overrides, init_telemetry, load_settings, print_settings,
    run_command_on_threads, shutdown_on_signals,
};

/// Gives memory back: thousands of connections come and go, and loading a graph takes several times its size. ONNX Runtime
/// allocates here as well.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Turns texts into vectors over gRPC.
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
    /// Exit 0 if a running service reports that it serves, else 1.
    Healthcheck {
        /// The running service.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051")]
        address: String,
        #[command(flatten)]
        args: HealthcheckArgs,
    },
}

#[derive(Args)]
struct ServeArgs {
    /// Settings as a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address of the HTTP listener for /livez, /readyz and /metrics; "" for none [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_listen: Option<String>,
    /// Folder of the encoder bundle [default: .runtime/bundles/minilm-512].
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<String>,
    /// ONNX Runtime's shared library [default: $ORT_DYLIB_PATH or .runtime/lib/libonnxruntime.so].
    #[arg(long, value_name = "FILE")]
    runtime_library: Option<String>,
    /// Sessions of one thread each; 0 for one a core [default: 0].
    #[arg(long, value_name = "N")]
    sessions: Option<u64>,
    /// Print the settings that hold, from wherever they come, as a settings file; secrets are not shown.
    #[arg(long)]
    print_config: bool,
    /// Logs as text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

const EXAMPLES: &str = "Every setting has a key in the file (see `config`), a variable (ENCODER_SVC_LISTEN, \
ENCODER_SVC_ENCODER__BUNDLE, …) and, for the common ones, a flag; a flag goes before a variable, a variable before the \
file.

Examples:
  encoder-svc serve
  encoder-svc serve --listen 0.0.0.0:50051 --sessions 4
  ENCODER_SVC_LIMITS__MAX_BATCH_SIZE=64 encoder-svc serve --log-format json";

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => {
            // How many threads there are to be is a setting, too.
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
        print!("{printed}");
        return Ok(());
    }
    let telemetry = init_telemetry("encoder-svc", &config.log, &config.trace)?;
    let shutdown = shutdown_on_signals()?;
    if let Some(file) = args.config.clone() {
        let filter = move || args.settings().map(|settings| settings.log.filter);
        tokio::spawn(telemetry.clone().follow_filter(file, filter, shutdown.clone()));
    }
    let listeners = Listeners::bind(config.listen, config.http_listen)?;
    encoder_svc::run(config, listeners, shutdown).await?;
    Ok(())
}
