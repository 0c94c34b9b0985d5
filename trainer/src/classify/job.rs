//! Classifies the rows of an input, a chunk at a time. A run can be resumed at any point, and
//! interruptions do not change the bytes of the table.

use std::path::PathBuf;

use encoder_client::{BulkEncoder, EncoderError};
use futures_util::TryStreamExt as _;
use genre_model::{GenreModel, WordFeatures};
use tonic::Code;

use crate::checkpoint::Checkpoint;
use crate::chunks::{self, Chunks};
use crate::classify::error::ClassifyError;
use crate::classify::input::{Input, InputRow, MovieText};
use crate::classify::output::Output;
use crate::classify::results::{ResultRow, ResultsHeader, ResultsReader, Scored};
use crate::classify::results_chunks::ResultsChunks;
use crate::classify::summary::Summary;
use crate::data::table_file::TableError;
use crate::encode::batches::{self, Division, Load, Place};
use crate::encode::error::EncodeError;
use crate::encode::shard::Shard;

/// What to classify, and how.
#[derive(Debug, Clone)]
pub struct ClassifyJob {
    /// The rows.
    pub input: Input,
    /// The table to write; with a shard, the folder of shards. A path, or the URL of an object store.
    pub output: PathBuf,
    /// The folder of unfinished work whose output goes to an object store.
    pub work: PathBuf,
    /// Rows in a chunk. An interruption loses at most one chunk and the calls in flight.
    pub chunk: usize,
    /// How rows are divided into calls.
    pub load: Load,
    /// Discards the checkpoint of another job, and replaces the output of another.
    pub restart: bool,
    /// Classifies only this shard of the rows.
    pub shard: Option<Shard>,
}

/// The outcome of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifyOutcome {
    /// The table that holds the results.
    pub output: PathBuf,
    /// Counts over its rows.
    pub summary: Summary,
    /// Rows among them that an earlier run classified.
    pub resumed: usize,
}

/// Runs the job. `client` must be of the encoder that `model` was fitted on. If it is dropped or
/// killed, the next run continues with the first unfinished chunk.
pub async fn run(
    job: &ClassifyJob,
    client: &BulkEncoder,
    model: &GenreModel,
) -> Result<ClassifyOutcome, ClassifyError> {
    if job.input.reads_from(&job.output, job.shard.is_some()) {
        return Err(ClassifyError::IsInput { path: job.output.clone() });
    }
    let inventory = job.input.inventory().await?;
    let chunk = job.chunk.max(1);
    let mut header = ResultsHeader::new(model, inventory.digest.clone(), inventory.rows, chunk);
    let mut range = 0..inventory.rows;
    if let Some(shard) = job.shard {
        header.shard = shard.to_string();
        range = shard.movies(inventory.rows);
    }
    let output = Output::new(&job.output, job.shard, &job.work)?;
    let file = ResultsChunks { header: &header };
    if !job.restart {
        let finished = |summary| ClassifyOutcome { output: output.location(), summary, resumed: range.len() };
        // A whole file of this job that was not uploaded may replace an object of another job.
        if output.file.exists()
            && let Some(found) = written(&output, file)?
        {
            let summary = summary_of(found)?;
            chunks::remove_leftovers(&output.file)?;
            output.publish().await?;
            return Ok(finished(summary));
        }
        if let Some((found, _file)) = output.published(chunk).await?
            && let Some(found) = of_this_job(&output, file, found)?
        {
            return Ok(finished(summary_of(found)?));
        }
    }
    let chunks = Chunks::open(&output.file, file, range.len(), chunk, job.restart)?;
    let division = Division { rows: range.len(), chunk, is_done: chunks.finished() };
    let resumed = division.done();
    let rows = job.input.rows(&inventory, range.start).map_err(ClassifyError::from);
    let work = async |rows: Vec<InputRow>| Ok(classify(client, model, rows).await?);
    let mut waiting = Vec::new();
    let take = |place: Place, mut rows: Vec<ResultRow>| {
        waiting.append(&mut rows);
        if place.is_last { chunks.write(place.chunk, std::mem::take(&mut waiting)) } else { Ok(()) }
    };
    batches::in_order(client, job.load, division, "rows", rows, work, take).await?;
    let mut summary = Summary::default();
    chunks.merge(&output.file, |rows| summary.add(rows))?;
    output.publish().await?;
    Ok(ClassifyOutcome { output: output.location(), summary, resumed })
}

/// Returns the finished file if it is the one of this job. The working file of an object may be of
/// another job, whose upload failed.
fn written(output: &Output, file: ResultsChunks<'_>) -> Result<Option<ResultsReader>, ClassifyError> {
    let found = ResultsReader::open(&output.file, file.header.chunk);
    if output.is_object() {
        return Ok(found.ok().filter(|found| found.header() == file.header));
    }
    of_this_job(output, file, found)
}

/// Returns a finished table if it is the one of this job. Another table is an error, unless an
/// interrupted run was about to replace it.
fn of_this_job(
    output: &Output,
    file: ResultsChunks<'_>,
    found: Result<ResultsReader, TableError>,
) -> Result<Option<ResultsReader>, ClassifyError> {
    let (checkpoint, found) = match found {
        Ok(found) => (Checkpoint::compare(file.header, found.header()), Some(found)),
        Err(error @ TableError::Io(_)) => return Err(error.into()),
        Err(error) => (Checkpoint::unreadable(error.reason()), None),
    };
    let Checkpoint::OtherJob(differences) = checkpoint else { return Ok(found) };
    if chunks::checkpoint(&output.file, &file)? == Checkpoint::SameJob {
        return Ok(None);
    }
    Err(ClassifyError::OtherJob { path: output.location(), differences })
}

fn summary_of(mut results: ResultsReader) -> Result<Summary, ClassifyError> {
    let mut summary = Summary::default();
    while let Some(rows) = results.next_rows()? {
        summary.add(&rows);
    }
    Ok(summary)
}

/// Classifies the rows of one call. If the encoder rejects a text, the others are encoded alone.
async fn classify(
    client: &BulkEncoder,
    model: &GenreModel,
    rows: Vec<InputRow>,
) -> Result<Vec<ResultRow>, EncodeError> {
    let template = &model.provenance().input_template;
    let compose = |movie: &MovieText| template.compose(&movie.title, &movie.overview);
    let texts: Vec<String> = rows.iter().filter_map(|row| row.movie.as_ref().ok()).map(compose).collect();
    let encoded = match encode(client, texts.clone()).await {
        Err(error) if rejection(&error).is_some() && texts.len() > 1 => {
            let mut alone = Vec::with_capacity(texts.len());
            for text in texts {
                alone.extend(or_rejection(encode(client, vec![text]).await, 1)?);
            }
            alone
        }
        result => or_rejection(result, texts.len())?,
    };
    let mut encoded = encoded.into_iter();
    let mut result = |row: InputRow| {
        let scored = match row.movie {
            Err(reason) => Err(reason),
            Ok(movie) => encoded
                .next()
                .unwrap_or_else(|| Err("expected a vector, found none".to_owned()))
                .map(|(vector, truncated)| {
                    let words = model.word_features(&movie.title, &movie.overview);
                    scored(model, &vector, &words, truncated)
                }),
        };
        ResultRow { id: row.id, scored }
    };
    Ok(rows.into_iter().map(&mut result).collect())
}

/// A vector and whether its text was truncated, or why the encoder rejected the text.
type Encoded = Result<(Vec<f32>, bool), String>;

async fn encode(client: &BulkEncoder, texts: Vec<String>) -> Result<Vec<Encoded>, EncoderError> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let vectors = client.encode(texts).await?;
    let rows = vectors.values.rows().into_iter().zip(vectors.truncated);
    Ok(rows.map(|(vector, truncated)| Ok((vector.to_vec(), truncated))).collect())
}

fn or_rejection(
    result: Result<Vec<Encoded>, EncoderError>,
    texts: usize,
) -> Result<Vec<Encoded>, EncodeError> {
    match result {
        Ok(encoded) => Ok(encoded),
        Err(error) => match rejection(&error) {
            Some(reason) => Ok(vec![Err(reason); texts]),
            None => Err(error.into()),
        },
    }
}

/// Returns why the encoder rejected a text, or `None` for any other failure.
fn rejection(error: &EncoderError) -> Option<String> {
    match error {
        EncoderError::Failed(status) | EncoderError::Unavailable { status, .. }
            if status.code() == Code::InvalidArgument =>
        {
            Some(status.message().to_owned())
        }
        _ => None,
    }
}

fn scored(model: &GenreModel, vector: &[f32], words: &WordFeatures, truncated: bool) -> Scored {
    let probabilities = model.probabilities_of(&ndarray::ArrayView1::from(vector), words).to_vec();
    let is_predicted = |label: &usize| model.thresholds().predicts(*label, probabilities[*label]);
    let mut predicted: Vec<usize> = (0..probabilities.len()).filter(is_predicted).collect();
    // A stable sort, as in the classifier: equally probable labels stay in the model's order.
    predicted.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let labels = predicted.into_iter().map(|label| model.labels()[label].clone()).collect();
    Scored { labels, probabilities, truncated }
}
