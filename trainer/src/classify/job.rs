//! Classifies the rows of an input, a chunk at a time. A run can be resumed at any point, and
//! interruptions do not change the bytes of the table.

use std::path::{Path, PathBuf};
use std::pin::pin;

use encoder_client::{BulkEncoder, EncoderError};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use genre_model::{GenreModel, WordFeatures, write_atomically};
use tonic::Code;

use crate::checkpoint::Checkpoint;
use crate::classify::error::ClassifyError;
use crate::classify::input::{Input, InputError, InputRow, MovieText, Rows};
use crate::classify::results::{ResultRow, ResultsHeader, ResultsReader, ResultsWriter, Scored};
use crate::classify::summary::Summary;
use crate::encode::batches::Load;
use crate::encode::chunks;
use crate::encode::error::EncodeError;
use crate::encode::shard::Shard;
use crate::{FileError, Progress};

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

/// Runs the job. `client` must be of the encoder that `model` was fitted on. If it is dropped or killed, the next run continues with the first unfinished chunk.
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
    if !job.restart && output.exists() {
        let found = ResultsReader::open(&output, chunk)?;
        // An interrupted job that replaces the output continues.
        let is_replaced = parts_of(&output, &header)? == Checkpoint::SameJob;
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
    let parts = Parts::open(&output, &header, range.len().div_ceil(chunk), job.restart)?;
    let is_done: Vec<bool> = (0..parts.count).map(|index| parts.is_finished(index, range.len())).collect();
    let resumed =
        (0..parts.count).filter(|index| is_done[*index]).map(|index| parts.len(index, range.len())).sum();
    let rows = job.input.open();
    let batches = Batches {
        rows: Box::new(rows.skip(range.start)),
        left: range.len(),
        chunk,
        batch: job.load.batch.clamp(1, client.description().max_batch_size),
        is_done,
        next: 0,
        at: 0,
    };
    let calls = job.load.in_flight.max(1) * client.replicas();
    let progress = Progress::new(range.len(), "rows");
    progress.skip(resumed);
    let classify_one = |batch: Result<Batch, ClassifyError>| async {
        let batch = batch?;
        let rows = classify(client, model, batch.rows).await?;
        Ok::<_, ClassifyError>((batch.chunk, batch.is_last, rows))
    };
    let mut classified = pin!(stream::iter(batches).map(classify_one).buffered(calls));
    let mut waiting = Vec::new();
    while let Some((index, is_last, mut rows)) = classified.try_next().await? {
        progress.advance(rows.len());
        waiting.append(&mut rows);
        if is_last {
            parts.write(index, &std::mem::take(&mut waiting))?;
        }
    }
    progress.finish();
    let summary = parts.merge(&output)?;
    if client.shortened() > 0 {
        let limit = client.description().max_text_bytes;
        tracing::warn!("cut {} texts to the {limit} bytes that the encoder accepts", client.shortened());
    }
    Ok(ClassifyOutcome { output, summary, resumed })
}

fn summary_of(mut results: ResultsReader) -> Result<Summary, ClassifyError> {
    let mut summary = Summary::default();
    while let Some(rows) = results.next_rows()? {
        summary.add(&rows);
    }
    Ok(summary)
}

/// The rows of one call. A batch never spans two chunks.
struct Batch {
    chunk: usize,
    /// Whether this is the last batch of its chunk.
    is_last: bool,
    rows: Vec<InputRow>,
}

/// Divides rows into chunks, and chunks into batches. Skips the chunks that are done.
struct Batches {
    rows: Rows,
    left: usize,
    chunk: usize,
    batch: usize,
    is_done: Vec<bool>,
    /// The chunk of the next row.
    next: usize,
    /// The place of the next row in its chunk.
    at: usize,
}

impl Batches {
    fn take(&mut self, count: usize) -> Result<Vec<InputRow>, ClassifyError> {
        let rows: Vec<InputRow> = self.rows.by_ref().take(count).collect::<Result<_, InputError>>()?;
        if rows.len() < count {
            return Err(EncodeError::SourceChanged.into());
        }
        self.left -= count;
        Ok(rows)
    }

    fn batch(&mut self) -> Result<Option<Batch>, ClassifyError> {
        while self.left > 0 {
            let chunk_left = self.left.min(self.chunk - self.at);
            if self.is_done[self.next] {
                for _ in 0..chunk_left {
                    self.take(1)?;
                }
                self.next += 1;
                continue;
            }
            let count = chunk_left.min(self.batch);
            let (chunk, is_last) = (self.next, count == chunk_left);
            let rows = self.take(count)?;
            (self.next, self.at) = if is_last { (self.next + 1, 0) } else { (self.next, self.at + count) };
            return Ok(Some(Batch { chunk, is_last, rows }));
        }
        Ok(None)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, ClassifyError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
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

/// The finished chunks of one job, in a locked folder beside its output.
struct Parts<'a> {
    folder: PathBuf,
    header: &'a ResultsHeader,
    count: usize,
    _lock: std::fs::File,
}

fn manifest_in(folder: &Path) -> PathBuf {
    folder.join("manifest.json")
}

/// Returns what the checkpoint folder of `output` holds.
fn parts_of(output: &Path, header: &ResultsHeader) -> Result<Checkpoint, ClassifyError> {
    let path = manifest_in(&chunks::folder_of(output));
    match std::fs::read(&path) {
        Ok(saved) => Ok(Checkpoint::of_json(header, &saved)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Checkpoint::Absent),
        Err(error) => Err(FileError::at(&path)(error).into()),
    }
}

impl<'a> Parts<'a> {
    fn open(
        output: &Path,
        header: &'a ResultsHeader,
        count: usize,
        restart: bool,
    ) -> Result<Self, ClassifyError> {
        let folder = chunks::folder_of(output);
        let io = |source| FileError::at(&folder)(source);
        std::fs::create_dir_all(&folder).map_err(io)?;
        let lock = chunks::lock(&folder)?;
        let parts = Self { folder: folder.clone(), header, count, _lock: lock };
        if restart && parts_of(output, header)? != Checkpoint::Absent {
            for index in 0..count {
                chunks::remove(&parts.path(index)).map_err(io)?;
            }
            chunks::remove(&manifest_in(&folder)).map_err(io)?;
        }
        match parts_of(output, header)? {
            Checkpoint::Absent => {
                let json = serde_json::to_vec_pretty(header).expect("texts and numbers are JSON");
                write_atomically(&manifest_in(&folder), &json).map_err(io)?;
            }
            Checkpoint::SameJob => {}
            Checkpoint::OtherJob(differences) => {
                return Err(ClassifyError::OtherJob { path: folder, differences });
            }
        }
        Ok(parts)
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("part-{index:05}.parquet"))
    }

    /// Returns the rows of a chunk of a job with `all` rows.
    fn len(&self, index: usize, all: usize) -> usize {
        let chunk = self.header.chunk;
        chunk.min(all - index * chunk)
    }

    /// Returns whether a chunk is present and whole.
    fn is_finished(&self, index: usize, all: usize) -> bool {
        let path = self.path(index);
        if !path.exists() {
            return false;
        }
        let is_own =
            |found: &ResultsReader| found.header() == self.header && found.len() == self.len(index, all);
        let is_whole = ResultsReader::open(&path, self.header.chunk)
            .map_err(ClassifyError::from)
            .map(|found| is_own(&found) && summary_of(found).is_ok());
        match is_whole {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!("chunk {}: expected rows of this job; classifying them again", path.display());
                false
            }
            Err(error) => {
                tracing::warn!("{error}; classifying the chunk again");
                false
            }
        }
    }

    fn write(&self, index: usize, rows: &[ResultRow]) -> Result<(), ClassifyError> {
        let mut writer = ResultsWriter::create_in(&self.folder, &self.path(index), self.header.clone())?;
        writer.write(rows)?;
        Ok(writer.finish()?)
    }

    /// Copies all chunks, in order, into `output` and removes the folder.
    fn merge(self, output: &Path) -> Result<Summary, ClassifyError> {
        let mut summary = Summary::default();
        let mut writer = ResultsWriter::create_in(&self.folder, output, self.header.clone())?;
        for index in 0..self.count {
            let mut part = ResultsReader::open(&self.path(index), self.header.chunk)?;
            while let Some(rows) = part.next_rows()? {
                summary.add(&rows);
                writer.write(&rows)?;
            }
        }
        writer.finish()?;
        std::fs::remove_dir_all(&self.folder).map_err(FileError::at(&self.folder))?;
        Ok(summary)
    }
}
