//! The command line: `serve`, `classify` and `healthcheck`.
//!
//! A command parses arguments, builds the parts of the library and prints. Rules of classification
//! do not belong here.

mod backend;
mod classify;
mod embedded;
mod many;
mod output;
mod record_output;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service_kit::{HealthcheckArgs, run_command};

use self::classify::ClassifyArgs;
use self::serve::ServeArgs;

/// Predict the genres of movies from their titles and overviews.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gRPC service, the REST API and the web page until SIGTERM or Ctrl-C.
    Serve(ServeArgs),
    /// Classify one movie, or many from a file. Calls a running service, or runs in this process
    /// with --embedded.
    Classify(Box<ClassifyArgs>),
    /// Exit with 0 if a running service reports SERVING, otherwise with 1.
    Healthcheck {
        /// Address of the running service.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50052")]
        address: String,
        #[command(flatten)]
        args: HealthcheckArgs,
    },
}

const EXAMPLES: &str = "Every setting has a key in the settings file and an environment variable, such as \
CLASSIFIER_SVC_LISTEN or CLASSIFIER_SVC_ENCODER__URL. The common ones also have a flag. A flag overrides a variable, and \
a variable overrides the file.

Examples:
  classifier-svc serve
  classifier-svc serve --encoder http://encoder:50051 --listen 0.0.0.0:50052
  classifier-svc classify --title 'The Last Harbour' --overview 'A pilot hunts the smugglers who …'
  classifier-svc classify --embedded --json --overview 'Two sisters inherit a haunted vineyard.'
  classifier-svc classify --input movies.csv --output jsonl > genres.jsonl
  cat movies.jsonl | classifier-svc classify --input - --input-format jsonl --output csv";

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    run_command(async {
        match cli.command {
            Command::Serve(args) => serve::serve(args).await,
            Command::Classify(args) => classify::classify(*args).await,
            Command::Healthcheck { address, args } => args.run(&address).await,
        }
    })
}
