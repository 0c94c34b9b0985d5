//! `classifier-svc classify`: one movie from the command line, or many from a file.

mod backend;
mod many;
mod movie_input;
mod record_output;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use classifier_svc::output;
use proto::classifier::v1::ClassifyRequest;
use service_kit::ClientTlsArgs;

use self::backend::Backend;
use self::movie_input::InputFormat;
use self::record_output::OutputFormat;

/// What a person waits for at most.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct ClassifyArgs {
    /// The movie's title; may be left out.
    #[arg(long, default_value = "", conflicts_with = "input")]
    title: String,
    /// What the movie is about.
    #[arg(long, required_unless_present = "input", conflicts_with = "input")]
    overview: Option<String>,
    /// Many movies: a file with the columns or keys title, overview and, if wanted, id; - for standard input.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// What is in the file [default: by its name's ending].
    #[arg(long, value_name = "FORMAT", requires = "input")]
    input_format: Option<InputFormat>,
    /// For many movies: what is written to standard output, a record for each movie as it is answered, in order.
    #[arg(long, value_name = "FORMAT", default_value = "jsonl", requires = "input")]
    output: OutputFormat,
    /// One JSON object instead of a table.
    #[arg(long, conflicts_with = "input")]
    json: bool,
    /// All genres in the table, the predicted ones marked with *.
    #[arg(long, conflicts_with_all = ["json", "input"])]
    all: bool,
    /// Show as well what each sentence adds to each genre.
    #[arg(long, conflicts_with = "input")]
    explain: bool,
    #[command(flatten)]
    backend: BackendArgs,
}

#[derive(Args)]
pub(crate) struct BackendArgs {
    /// The running service; MOVIECLASSIFIER_API_KEY is the key to call it with, if it asks for one.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50052", conflicts_with = "embedded")]
    address: String,
    #[command(flatten)]
    tls: ClientTlsArgs,
    /// No service at all: load the encoder and the model into this process.
    #[arg(long)]
    embedded: bool,
    /// With --embedded, the model file [default: models/default.safetensors].
    #[arg(long, value_name = "FILE", requires = "embedded")]
    model: Option<PathBuf>,
    /// With --embedded, the encoder bundle [default: .runtime/bundles/minilm-512].
    #[arg(long, value_name = "FOLDER", requires = "embedded")]
    bundle: Option<String>,
}

pub(crate) async fn classify(args: ClassifyArgs) -> anyhow::Result<()> {
    let backend = Backend::open(&args.backend).await?;
    if let Some(input) = &args.input {
        return many::classify(&backend, input, args.input_format, args.output).await;
    }
    let request = ClassifyRequest {
        title: args.title.clone(),
        overview: args.overview.unwrap_or_default(),
        include_scores: true,
        explain: args.explain,
    };
    let answer = backend.classify(request).await.map_err(|status| backend.explain(&status))?;
    if args.json {
        println!("{}", output::json(&args.title, &answer));
    } else {
        println!("{}", output::table(&args.title, &answer, args.all));
    }
    Ok(())
}
