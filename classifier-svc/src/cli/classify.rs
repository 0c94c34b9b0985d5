//! `classifier-svc classify`: one movie from the arguments, or many from a file.

use std::path::PathBuf;

use clap::Args;
use movie_table::TableArgs;
use proto::classifier::v1::ClassifyRequest;
use service_kit::print;

use super::backend::{Backend, BackendArgs};
use super::record_output::OutputFormat;
use super::{many, output};

#[derive(Args)]
pub(super) struct ClassifyArgs {
    /// Title of the movie.
    #[arg(long, default_value = "", conflicts_with = "input")]
    title: String,
    /// What the movie is about; required unless --input is given.
    #[arg(long, required_unless_present = "input", conflicts_with = "input")]
    overview: Option<String>,
    /// Table of movies with the columns or keys overview, title (optional) and id (optional): CSV,
    /// TSV, JSON Lines or a JSON array, plain, gzipped or zipped; a folder that holds it; - for
    /// standard input.
    #[arg(long, value_name = "FILE|FOLDER|-")]
    input: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
    /// Format of the output with --input: one record for each movie, in order, written as soon as
    /// it is classified.
    #[arg(long, value_name = "FORMAT", default_value = "jsonl", requires = "input")]
    output: OutputFormat,
    /// Print one JSON object instead of a table.
    #[arg(long, conflicts_with = "input")]
    json: bool,
    /// Show all genres in the table; * marks the predicted ones.
    #[arg(long, conflicts_with_all = ["json", "input"])]
    all: bool,
    /// Also show what each sentence contributes to each genre.
    #[arg(long, conflicts_with = "input")]
    explain: bool,
    /// Predict the genres whose probability is above this value, in place of the model's thresholds.
    #[arg(long, value_name = "PROBABILITY")]
    min_probability: Option<f32>,
    /// Show at most this many genres, the most probable; without --min-probability, exactly so many.
    #[arg(long, value_name = "GENRES")]
    top_k: Option<u32>,
    #[command(flatten)]
    backend: BackendArgs,
}

pub(super) async fn classify(args: ClassifyArgs) -> anyhow::Result<()> {
    // The input first, since its errors cost no model.
    let input = args.input.as_deref().map(|path| many::open(path, &args.table.options())).transpose()?;
    let backend = Backend::open(&args.backend).await?;
    let selection = ClassifyRequest {
        min_probability: args.min_probability,
        top_k: args.top_k,
        ..ClassifyRequest::default()
    };
    if let Some(input) = input {
        return many::classify(&backend, input, &selection, args.output).await;
    }
    let request = ClassifyRequest {
        title: args.title.clone(),
        overview: args.overview.unwrap_or_default(),
        include_scores: true,
        explain: args.explain,
        ..selection
    };
    let response = backend.classify(request).await.map_err(|status| backend.explain(&status))?;
    let text = if args.json {
        output::json(&args.title, response)
    } else {
        output::table(&args.title, &response, args.all)
    };
    Ok(print(&text)?)
}
