//! `search`, and `reference`, which encodes its own vectors and searches on them.

use std::path::Path;

use anyhow::Result;
use encoder_client::BulkPolicy;
use genre_model::InputTemplate;
use movie_table::Source;
use trainer::data::ingest::prepare;
use trainer::data::movie_source::MovieSource;
use trainer::encode::job::{self, EncodeJob};
use trainer::search::{self, SearchJob, SearchOutcome, Space, trials_table};
use trainer::{FittingData, IngestOptions, Load, Vectors};

use super::sources::Sources;
use super::{outputs, print, reference_lines};
use crate::cli::args::{Reference, Search, SearchArgs};
use crate::cli::runtime::block_on;

/// The figures that the reference system printed, in the order of its lines, for the full Kaggle
/// file and vectors of the Universal Sentence Encoder.
const REFERENCE_FIGURES: [&str; 4] = ["0.5582", "0.6114", "0.5571", "0.6086"];

pub(super) fn search(args: &Search) -> Result<()> {
    outputs::of_search(args).check()?;
    let sources = Sources::read(&args.sources.vectors)?;
    let data = sources.fitting_data()?;
    let outcome = search::run(&job(args.space, &args.trials, &args.output), &data)?;
    let lines = reference_lines(&outcome.model, &sources.measured()?, args.report_test)?;
    print(&format!("{}\n\n{}\n{}", table(&outcome), lines.join("\n"), wrote(&outcome, &args.output)))
}

pub(super) fn reference(args: &Reference) -> Result<()> {
    outputs::of_reference(args).check()?;
    let movies = args.work.join("movies.parquet");
    let report = prepare::run(&Source::new(&args.input), &IngestOptions::default(), &movies, None)?;
    tracing::info!("{} of {} rows are usable movies", report.kept, report.rows);
    let output = args.work.join("overviews.parquet");
    let encoding = EncodeJob {
        source: MovieSource::MoviesFile(movies),
        output: output.clone(),
        // The reference system ignores titles.
        template: InputTemplate::parse("{overview}")?,
        chunk: 256,
        load: Load::default(),
        restart: args.trials.restart,
        shard: None,
    };
    block_on(async {
        let client = args.encoder.connect(BulkPolicy::default()).await?;
        Ok(job::run(&encoding, &client).await?)
    })?;
    let vectors = Vectors::read(&output).map_err(|error| anyhow::anyhow!("vectors file {error}"))?;
    let data = FittingData::of(&vectors)?;
    let folder = args.work.join("search");
    let outcome = search::run(&job(Space::Reference, &args.trials, &folder), &data)?;
    let lines: Vec<String> = reference_lines(&outcome.model, &vectors, true)?
        .into_iter()
        .zip(REFERENCE_FIGURES)
        .map(|(line, reference)| format!("{line:<40}(the reference system: {reference})"))
        .collect();
    print(&format!("{}\n\n{}\n{}", table(&outcome), lines.join("\n"), wrote(&outcome, &folder)))
}

fn job(space: Space, args: &SearchArgs, folder: &Path) -> SearchJob {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    SearchJob {
        space,
        trials: args.trials,
        seed: args.seed,
        max_epochs: args.epochs,
        threads: args.threads.unwrap_or(cores),
        folder: folder.to_owned(),
        restart: args.restart,
    }
}

fn table(outcome: &SearchOutcome) -> String {
    trials_table(&outcome.trials, outcome.trials.len())
}

fn wrote(outcome: &SearchOutcome, folder: &Path) -> String {
    let (winner, trials) = (outcome.winner, outcome.trials.len());
    let resumed = match outcome.resumed {
        0 => String::new(),
        resumed => format!(", {resumed} of them by an earlier run"),
    };
    format!(
        "wrote {}: model {} of trial {winner}, the lowest validation loss of {trials} trials{resumed}",
        folder.join("model.safetensors").display(),
        outcome.model.version(),
    )
}
