//! `classifier-svc serve`, `classifier-svc classify` and `classifier-svc healthcheck`.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

mod cli;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use classifier_svc::config::ENVIRONMENT_PREFIX;
use classifier_svc::{ClassifierSvcConfig, ClassifierSvcSettings};
use service_kit::{
    HealthcheckArgs, Listeners, Metrics, Overrides, Shutdown, init_telemetry, load_settings, print_settings,
    run_command, shutdown_on_signals,
};
use tonic::transport::Channel;

use crate::cli::ClassifyArgs;

/// Gives memory back: thousands of connections come and go, and an embedded encoder loads a graph.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Tells the genres of movies from their titles and overviews, over gRPC or on the command line.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve movieclassifier.classifier.v1.ClassifierService until SIGTERM or Ctrl-C.
    Serve(ServeArgs),
    /// Classify one movie, or many from a file, by a running service or with --embedded by this process alone.
    Classify(Box<ClassifyArgs>),
    /// Exit 0 if a running service reports that it serves, else 1.
    Healthcheck {
        /// The running service.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50052")]
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
    /// Address to listen on [default: 127.0.0.1:50052].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address of the HTTP listener for REST and the web page; "" for none [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDRESS:PORT")]
    rest_listen: Option<String>,
    /// The model file [default: models/default.safetensors].
    #[arg(long, value_name = "FILE")]
    model: Option<String>,
    /// The encoder's address, or several separated by commas; every address that a host's name stands for is a
    /// replica [default: http://127.0.0.1:50051].
    #[arg(long, value_name = "URL", conflicts_with = "embedded")]
    encoder: Option<String>,
    /// Start an encoder inside this process instead of calling one (its settings: ENCODER_SVC_… variables).
    #[arg(long)]
    embedded: bool,
    /// Print the settings that hold, from wherever they come, as a settings file; secrets are not shown.
    #[arg(long)]
    print_config: bool,
    /// Logs as text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

const EXAMPLES: &str = "Every setting has a key in the file, a variable (CLASSIFIER_SVC_LISTEN, \
CLASSIFIER_SVC_ENCODER__URL, …) and, for the common ones, a flag; a flag goes before a variable, a variable before the \
file.

Examples:
  classifier-svc serve
  classifier-svc serve --encoder http://encoder:50051 --listen 0.0.0.0:50052
  classifier-svc classify --title 'The Last Harbour' --overview 'A pilot hunts the smugglers who …'
  classifier-svc classify --embedded --json --overview 'Two sisters inherit a haunted vineyard.'
  classifier-svc classify --input movies.csv --output jsonl > genres.jsonl
  cat movies.jsonl | classifier-svc classify --input - --input-format jsonl --output csv";

fn main() -> ExitCode {
    let cli = Cli::parse();
    run_command(async {
        match cli.command {
            Command::Serve(args) => serve(args).await,
            Command::Classify(args) => cli::classify(*args).await,
            Command::Healthcheck { address, args } => args.run(&address).await,
        }
    })
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let flags = Overrides::default()
        .with("listen", args.listen)
        .with("rest.listen", args.rest_listen)
        .with("model", args.model)
        .with("encoder.url", args.encoder)
        .with("log.format", args.log_format);
    let file = args.config.clone();
    let read =
        move || load_settings::<ClassifierSvcSettings>(ENVIRONMENT_PREFIX, file.as_deref(), flags.clone());
    let settings = read()?;
    let printed = print_settings(&settings);
    let config = ClassifierSvcConfig::try_from(settings)?;
    if args.print_config {
        print!("{printed}");
        return Ok(());
    }
    let telemetry = init_telemetry("classifier-svc", &config.log, &config.trace)?;
    let shutdown = shutdown_on_signals()?;
    if let Some(file) = args.config {
        let filter = move || read().map(|settings| settings.log.filter);
        tokio::spawn(telemetry.clone().follow_filter(file, filter, shutdown.clone()));
    }
    let http = config.rest.as_ref().map(|rest| rest.listen);
    let listeners = Listeners::bind(config.listen, http)?;
    let metrics = Metrics::default();
    let embedded = if args.embedded { Some(embedded_encoder(None, metrics.clone()).await?) } else { None };
    classifier_svc::run(config, embedded, metrics, listeners, shutdown).await?;
    Ok(())
}

/// An encoder in this process, by its own settings; `bundle` goes before them.
///
/// It lives as long as the process: calls in flight at shutdown still need it.
#[cfg(feature = "embedded")]
async fn embedded_encoder(bundle: Option<String>, metrics: Metrics) -> anyhow::Result<Channel> {
    let flags = Overrides::default().with("encoder.bundle", bundle);
    let settings: encoder_svc::EncoderSvcSettings =
        load_settings(encoder_svc::config::ENVIRONMENT_PREFIX, None, flags)?;
    Ok(encoder_svc::embedded::channel(settings, metrics, Shutdown::new()).await?)
}

#[cfg(not(feature = "embedded"))]
async fn embedded_encoder(_bundle: Option<String>, _metrics: Metrics) -> anyhow::Result<Channel> {
    let _ = Shutdown::new();
    anyhow::bail!(
        "this binary was built without the `embedded` feature; name a running encoder or service instead"
    )
}
