//! Classifies the rows of an input, a chunk at a time. A run can be resumed at any point, and
//! interruptions do not change the bytes of the table.

use std::path::PathBuf;

use encoder_client::{BulkEncoder, EncoderError};
use futures_util::stream::{self, TryStreamExt as _};
use genre_model::{GenreModel, WordFeatures};
use tonic::Code;

use crate::checkpoint::Checkpoint;
use crate::chunks::{self, Chunks};
use crate::classify::error::ClassifyError;
use crate::classify::input::{Input, InputRow, MovieText};
use crate::classify::results::{ResultRow, ResultsHeader, ResultsReader, Scored};
use crate::classify::results_chunks::ResultsChunks;
use crate::classify::summary::Summary;
use crate::encode::batches::{self, Division, Load, Place};
use crate::encode::error::EncodeError;
use crate::encode::shard::Shard;

/// What to classify, and how.
#[derive(Debug, Clone)]
pub struct ClassifyJob {
    /// The rows.
    pub input: Input,
    /// The table to write; with a shard, the folder of shards.
    pub output: PathBuf,
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
    let inventory = job.input.inventory()?;
    let chunk = job.chunk.max(1);
    let mut header = ResultsHeader::new(model, inventory.digest, inventory.rows, chunk);
    let (mut output, mut range) = (job.output.clone(), 0..inventory.rows);
    if let Some(shard) = job.shard {
        header.shard = shard.to_string();
        output = output.join(shard.file_name());
        range = shard.movies(inventory.rows);
    }
    let file = ResultsChunks { header: &header };
    if !job.restart && output.exists() {
        let found = ResultsReader::open(&output, chunk)?;
        // An interrupted job that replaces the output continues.
        let is_replaced = chunks::checkpoint(&output, &file)? == Checkpoint::SameJob;
        match Checkpoint::compare(&header, found.header()) {
            Checkpoint::OtherJob(_) if is_replaced => {}
            Checkpoint::OtherJob(differences) => {
                return Err(ClassifyError::OtherJob { path: output, differences });
            }
            _ => {
                chunks::remove_leftovers(&output)?;
                let (summary, resumed) = (summary_of(found)?, range.len());
                return Ok(ClassifyOutcome { output, summary, resumed });
            }
        }
    }
    let chunks = Chunks::open(&output, file, range.len(), chunk, job.restart)?;
    let division = Division { rows: range.len(), chunk, is_done: chunks.finished() };
    let resumed = division.done();
    let rows = stream::iter(job.input.open().skip(range.start)).map_err(ClassifyError::from);
    let work = async |rows: Vec<InputRow>| Ok(classify(client, model, rows).await?);
    let mut waiting = Vec::new();
    let take = |place: Place, mut rows: Vec<ResultRow>| {
        waiting.append(&mut rows);
        if place.is_last { chunks.write(place.chunk, std::mem::take(&mut waiting)) } else { Ok(()) }
    };
    batches::in_order(client, job.load, division, "rows", rows, work, take).await?;
    let mut summary = Summary::default();
    chunks.merge(&output, |rows| summary.add(rows))?;
    Ok(ClassifyOutcome { output, summary, resumed })
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

