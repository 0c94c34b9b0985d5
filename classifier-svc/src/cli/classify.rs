//! `classifier-svc classify`: one movie from the command line, or many from a file.

use std::path::PathBuf;

use clap::Args;
use proto::classifier::v1::ClassifyRequest;

use super::backend::{Backend, BackendArgs};
use super::movie_input::InputFormat;
use super::record_output::OutputFormat;
use super::{many, output};

#[derive(Args)]
pub(super) struct ClassifyArgs {
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

pub(super) async fn classify(args: ClassifyArgs) -> anyhow::Result<()> {
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
        println!("{}", output::json(&args.title, answer));
    } else {
        println!("{}", output::table(&args.title, &answer, args.all));
    }
    Ok(())
}
