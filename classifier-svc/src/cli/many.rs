//! Classifies the movies of a file, a few at a time, and writes the results in order.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use futures_util::{StreamExt as _, pin_mut};
use indicatif::{ProgressBar, ProgressStyle};
use movie_table::{Row, RowProblem, Source, TableOptions, TableReader, is_placeholder};
use proto::classifier::v1::ClassifyRequest;
use same_file::Handle;
use service_kit::until_reader_left;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::backend::Backend;
use super::record_output::{Outcome, OutputFormat, RecordWriter};

/// Movies in flight at once; enough to keep an encoder with several cores busy.
const IN_FLIGHT: usize = 32;
/// The most failed rows that the error lists.
const NAMED: usize = 10;

/// A movie, or the reason why its row is invalid.
type Record = Result<Row, RowProblem>;

/// Opens the table of movies at `path`; `-` is standard input.
pub(super) fn open(path: &Path, options: &TableOptions) -> anyhow::Result<TableReader> {
    // `>> FILE` would otherwise be read for ever.
    let input = if path == Path::new("-") {
        Handle::stdin().ok()
    } else {
        // To open a named pipe and close it again would end its writer.
        path.is_file().then(|| Handle::from_path(path).ok()).flatten()
    };
    // A terminal is both, too.
    let is_file = |handle: &Handle| handle.as_file().metadata().is_ok_and(|found| found.is_file());
    if let (Some(input), Ok(output)) = (input, Handle::stdout())
        && is_file(&input)
        && input == output
    {
        anyhow::bail!(
            "--input {}: expected another file than standard output, found the same",
            path.display()
        );
    }
    TableReader::open(&Source::new(path), options).context("--input")
}

/// Classifies every movie of the table and writes the results to standard output. Each request is
/// `selection` with the movie's texts.
///
/// # Errors
///
/// Fails if the table cannot be read, and at the end if any movie failed. Ends without an error as
/// soon as nothing reads the output.
pub(super) async fn classify(
    backend: &Backend,
    input: TableReader,
    selection: &ClassifyRequest,
    output_format: OutputFormat,
) -> anyhow::Result<()> {
    let (read, bar) = (input.progress(), bar(input.progress().total));
    let (sender, records) = mpsc::channel(IN_FLIGHT);
    // Reading blocks its thread; it stops once the receiver is gone. It is no thread of the runtime, which
    // at its end would wait for one that waits for a silent pipe.
    let reading = std::thread::spawn(move || -> anyhow::Result<()> {
        for (index, record) in input.enumerate() {
            if sender.blocking_send((index + 1, record?)).is_err() {
                break;
            }
        }
        Ok(())
    });
    let outcomes = ReceiverStream::new(records)
        .map(|(row, record)| classify_record(backend, row, record, selection.clone()))
        .buffered(IN_FLIGHT);
    pin_mut!(outcomes);
    let mut writer = RecordWriter::new(output_format, std::io::stdout().lock())?;
    let (mut all, mut failed) = (0_usize, Vec::new());
    while let Some(outcome) = outcomes.next().await {
        if !until_reader_left(writer.write(&outcome))? {
            // `head` has read enough. The movies left need no classification.
            bar.finish_and_clear();
            return Ok(());
        }
        all += 1;
        if outcome.result.is_err() {
            failed.push(outcome.row);
        }
        bar.set_position(read.read());
        bar.set_message(format!("{all} movies, {} failed", failed.len()));
    }
    bar.finish_and_clear();
    // It has ended, because its sender is gone.
    let read = reading.join().map_err(|_| anyhow::anyhow!("--input: reading it panicked"))?;
    read.map_err(|error| error.context(format!("--input, after {all} movies")))?;
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

async fn classify_record(
    backend: &Backend,
    row: usize,
    record: Record,
    selection: ClassifyRequest,
) -> Outcome {
    let movie = match record {
        Ok(movie) => movie,
        Err(problem) => {
            let result = Err(problem.to_string());
            return Outcome { row, id: None, title: String::new(), result };
        }
    };
    let Row { line, id, title, overview, .. } = movie;
    let title = title.unwrap_or_default();
    let overview = match overview {
        Some(overview) if !is_placeholder(&overview) => overview,
        found => {
            let found = found.map_or("none".to_owned(), |text| format!("the placeholder {text:?}"));
            let error = format!("line {line}: expected a text as the overview, found {found}");
            return Outcome { row, id, title, result: Err(error) };
        }
    };
    let request = ClassifyRequest { title: title.clone(), overview, ..selection };
    let result = backend.classify(request).await;
    let result = result.map_err(|status| format!("line {line}: {}", backend.explain(&status)));
    Outcome { row, id, title, result }
}

/// A progress bar on standard error; hidden unless that is a terminal.
fn bar(length: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{bar:30} {percent:>3} %  {bytes}/{total_bytes}  ETA {eta}  {msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {elapsed}  {msg}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style)
}
