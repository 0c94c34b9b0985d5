//! Classifies the movies of a file, a few at a time, and writes the results in order.

use std::path::Path;

use futures_util::{StreamExt as _, pin_mut};
use proto::classifier::v1::ClassifyRequest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::backend::Backend;
use super::movie_input::{InputFormat, MovieInput, Record};
use super::record_output::{Outcome, OutputFormat, RecordWriter};

/// Movies in flight at once; enough to keep an encoder with several cores busy.
const IN_FLIGHT: usize = 32;
/// The most failed rows that the error lists.
const NAMED: usize = 10;

/// Classifies every movie of the file at `path` and writes the results to standard output.
///
/// # Errors
///
/// Fails if the file cannot be read, and at the end if any movie failed.
pub(super) async fn classify(
    backend: &Backend,
    path: &Path,
    input_format: Option<InputFormat>,
    output_format: OutputFormat,
) -> anyhow::Result<()> {
    let input = MovieInput::open(path, input_format)?;
    let progress = input.progress.clone();
    let (sender, records) = mpsc::channel(IN_FLIGHT);
    // Reading blocks its thread; it stops once the receiver is gone.
    let reading = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        for (index, record) in input.records().enumerate() {
            if sender.blocking_send((index + 1, record?)).is_err() {
                break;
            }
        }
        Ok(())
    });
    let outcomes = ReceiverStream::new(records)
        .map(|(row, record)| classify_record(backend, row, record))
        .buffered(IN_FLIGHT);
    pin_mut!(outcomes);
    let mut writer = RecordWriter::new(output_format, std::io::stdout().lock())?;
    let (mut all, mut failed) = (0_usize, Vec::new());
    while let Some(outcome) = outcomes.next().await {
        writer.write(&outcome)?;
        all += 1;
        if outcome.result.is_err() {
            failed.push(outcome.row);
        }
        progress.set_message(format!("{all} movies, {} failed", failed.len()));
    }
    progress.finish_and_clear();
    reading
        .await?
        .map_err(|error| error.context(format!("--input {}, after {all} movies", path.display())))?;
    if failed.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = failed.iter().take(NAMED).map(usize::to_string).collect();
    let more = if failed.len() > NAMED { ", …" } else { "" };
    anyhow::bail!(
        "{} of {all} movies failed: rows {}{more}; see the field `error` of each",
        failed.len(),
        named.join(", ")
    )
}

async fn classify_record(backend: &Backend, row: usize, record: Record) -> Outcome {
    let movie = match record {
        Ok(movie) => movie,
        Err(error) => return Outcome { row, id: None, title: String::new(), result: Err(error) },
    };
    let request = ClassifyRequest {
        title: movie.title.clone(),
        overview: movie.overview,
        include_scores: false,
        explain: false,
    };
    let result = backend.classify(request).await;
    Outcome {
        row,
        id: movie.id,
        title: movie.title,
        result: result.map_err(|status| backend.explain(&status).to_string()),
    }
}
