//! From movies to the file of their vectors: resumable at any point, and the same bytes however often it was stopped.

use std::path::{Path, PathBuf};
use std::pin::pin;

use futures_util::TryStreamExt as _;
use genre_model::InputTemplate;

use crate::data::movie_source::{Inventory, MovieSource};
use crate::data::vectors_file::{VectorRows, VectorsHeader};
use crate::encode::batches::{self, Batches, Load};
use crate::encode::checkpoint::{self, Parts};
use crate::encode::encoder_client::EncoderClient;
use crate::encode::error::EncodeError;
use crate::encode::shard::Shard;
use crate::encode::shard_store::ShardFolder;
use crate::{Movie, Progress, SplitChoice, Vectors};

/// What to encode, and how.
#[derive(Debug, Clone)]
pub struct EncodeJob {
    /// The movies.
    pub source: MovieSource,
    /// The file to write.
    pub output: PathBuf,
    /// How a movie becomes a text.
    pub template: InputTemplate,
    /// Movies in a part: what is lost at most, but for the calls under way, when the job is stopped.
    pub chunk: usize,
    /// How the encoder is kept busy.
    pub load: Load,
    /// Throw away what other jobs left, and replace an output of other movies or another encoder.
    pub restart: bool,
    /// Only these movies of the source.
    pub shard: Option<Shard>,
}

/// What a job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeOutcome {
    /// The output was there already, made of the same movies by the same encoder.
    NothingToDo {
        /// Movies in it.
        movies: usize,
    },
    /// The output was written.
    Encoded {
        /// Movies in it.
        movies: usize,
        /// Of those, movies that an earlier, interrupted run had encoded.
        resumed: usize,
    },
}

/// Runs the job. Dropped or killed at any point, the next run goes on with the first unfinished part.
pub async fn run(job: &EncodeJob, client: &EncoderClient) -> Result<EncodeOutcome, EncodeError> {
    run_on(job, client, job.source.inventory()?).await
}

/// Runs one shard of a job on a folder of shards: it is there, whole and with its manifest, when this returns.
/// `job.output` is the folder to work in where the shards lie elsewhere.
pub async fn run_shard(
    job: &EncodeJob,
    shard: Shard,
    folder: &ShardFolder,
    client: &EncoderClient,
) -> Result<EncodeOutcome, EncodeError> {
    let inventory = job.source.inventory()?;
    let all = inventory.ids.len();
    let header = header(job, client, &inventory);
    let movies = shard.movies(all).len();
    if !job.restart
        && let Some(found) = folder.manifest(shard).await?
    {
        return match found.differences(shard, &header, all) {
            None => Ok(EncodeOutcome::NothingToDo { movies }),
            Some(differences) => {
                Err(EncodeError::OtherOutput { path: folder.working_file(shard, &job.output), differences })
            }
        };
    }
    let output = folder.working_file(shard, &job.output);
    let job = EncodeJob { output: output.clone(), shard: Some(shard), ..job.clone() };
    let outcome = run_on(&job, client, inventory).await?;
    folder.publish(&output, shard, &header, all).await?;
    Ok(outcome)
}

fn header(job: &EncodeJob, client: &EncoderClient, inventory: &Inventory) -> VectorsHeader {
    VectorsHeader {
        encoder: client.description().identity.clone(),
        dimension: client.description().dimension,
        template: job.template.clone(),
        data_digest: inventory.data_digest.clone(),
    }
}

async fn run_on(
    job: &EncodeJob,
    client: &EncoderClient,
    mut inventory: Inventory,
) -> Result<EncodeOutcome, EncodeError> {
    let header = header(job, client, &inventory);
    let description = client.description();
    let range = job.shard.map_or(0..inventory.ids.len(), |shard| shard.movies(inventory.ids.len()));
    inventory.ids = inventory.ids[range.clone()].to_vec();
    let (movies, chunk) = (inventory.ids.len(), job.chunk.max(1));
    if !job.restart && job.output.exists() {
        match differences(&job.output, &header, &inventory) {
            None => {
                checkpoint::remove_leftovers(&job.output)?;
                return Ok(EncodeOutcome::NothingToDo { movies });
            }
            // A job that was to replace the output, and was interrupted, goes on.
            Some(_) if checkpoint::are_of_this_job(&job.output, &header, &inventory, chunk) => {}
            Some(differences) => {
                return Err(EncodeError::OtherOutput { path: job.output.clone(), differences });
            }
        }
    }

    let parts = Parts::open(&job.output, &header, &inventory, chunk, job.restart)?;
    let is_done = parts.finished();
    let resumed = parts.movies(&is_done);
    let progress = Progress::new(movies, "texts");
    progress.skip(resumed);
    let batches = Batches {
        movies: Box::new(job.source.open()?.skip(range.start)),
        inventory: &inventory,
        chunk_size: chunk,
        batch_size: job.load.batch.clamp(1, description.max_batch_size),
        is_done,
        position: 0,
    };
    let compose = |movie: &Movie| {
        let (title, overview) = (&movie.title, &movie.overview);
        (job.template.compose(title, overview), job.template.words(title, overview))
    };
    let mut encoded = pin!(batches::encode(client, compose, batches, job.load.in_flight));
    let mut part = VectorRows::default();
    while let Some(mut batch) = encoded.try_next().await? {
        progress.advance(batch.rows.ids.len());
        part.append(&mut batch.rows);
        if batch.is_last {
            parts.write(batch.chunk, std::mem::take(&mut part))?;
        }
    }
    progress.finish();
    warn_of_shortened(client);
    parts.merge(&job.output)?;
    Ok(EncodeOutcome::Encoded { movies, resumed })
}

/// Encodes the movies of one part of a source, or all, and keeps the vectors in memory. Without titles, texts are
/// composed as for movies that have none.
pub async fn encode_in_memory(
    source: &MovieSource,
    choice: SplitChoice,
    client: &EncoderClient,
    template: &InputTemplate,
    with_title: bool,
) -> Result<Vectors, EncodeError> {
    let mut inventory = source.inventory()?;
    inventory.ids.retain(|id| choice.contains(*id));
    let is_chosen =
        move |movie: &Result<Movie, _>| movie.as_ref().map_or(true, |movie| choice.contains(movie.id));
    let (description, load) = (client.description(), Load::default());
    let movies = inventory.ids.len();
    let progress = Progress::new(movies, "texts");
    let batches = Batches {
        movies: Box::new(source.open()?.filter(is_chosen)),
        inventory: &inventory,
        chunk_size: movies.max(1),
        batch_size: load.batch.clamp(1, description.max_batch_size),
        is_done: vec![false],
        position: 0,
    };
    let compose = |movie: &Movie| {
        let (title, overview) = (if with_title { &movie.title } else { "" }, &movie.overview);
        (template.compose(title, overview), template.words(title, overview))
    };
    let mut encoded = pin!(batches::encode(client, compose, batches, load.in_flight));
    let mut all = VectorRows::default();
    while let Some(mut batch) = encoded.try_next().await? {
        progress.advance(batch.rows.ids.len());
        all.append(&mut batch.rows);
    }
    progress.finish();
    warn_of_shortened(client);
    let header = VectorsHeader {
        encoder: description.identity.clone(),
        dimension: description.dimension,
        template: template.clone(),
        data_digest: inventory.data_digest.clone(),
    };
    Ok(Vectors::from_rows(all, header))
}

fn warn_of_shortened(client: &EncoderClient) {
    let shortened = client.shortened();
    if shortened > 0 {
        let limit = client.description().max_text_bytes;
        tracing::warn!("{shortened} texts were longer than the encoder's {limit} bytes and cut off there");
    }
}

/// What an existing output has that this job's would not have; `None` if they are the same.
fn differences(output: &Path, expected: &VectorsHeader, inventory: &Inventory) -> Option<String> {
    let found = match Vectors::read(output) {
        Ok(found) => found,
        Err(error) => return Some(error.reason()),
    };
    let mut differences = Vec::new();
    let mut compare = |what: &str, expected: String, found: String| {
        if expected != found {
            differences.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    if expected.encoder.fingerprint != found.encoder.fingerprint {
        compare("encoder", expected.encoder.to_string(), found.encoder.to_string());
    }
    compare(
        "template",
        format!("{:?}", expected.template.to_string()),
        format!("{:?}", found.template.to_string()),
    );
    compare("movies (by their digest)", expected.data_digest.clone(), found.data_digest);
    compare("number of movies", inventory.ids.len().to_string(), found.ids.len().to_string());
    (!differences.is_empty()).then(|| differences.join("; "))
}
