//! The command line: `serve`, `classify` and `healthcheck`.
//!
//! A command parses arguments, builds the parts of the library and prints; it holds no rule of classification.

mod backend;
mod classify;
mod embedded;
mod many;
mod movie_input;
mod output;
mod record_output;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service_kit::{HealthcheckArgs, run_command};

use self::classify::ClassifyArgs;
use self::serve::ServeArgs;

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
