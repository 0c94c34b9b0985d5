//! Encodes movies into a vectors file. A run can be resumed at any point, and interruptions do not
//! change the bytes of the file.

use std::path::{Path, PathBuf};

use encoder_client::BulkEncoder;
use futures_util::stream;
use genre_model::{InputTemplate, WordFeatures};
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::chunks::{self, Chunks};
use crate::data::movie::overview_hash;
use crate::data::movie_source::{Inventory, MovieSource, Movies};
use crate::data::table_file::TableError;
use crate::data::vectors_file::{VectorRows, VectorsHeader, VectorsReader};
use crate::encode::batches::{self, Division, Load, Place};
use crate::encode::error::EncodeError;
use crate::encode::shard::Shard;
use crate::encode::shard_store::ShardFolder;
use crate::encode::vectors_chunks::VectorsChunks;
use crate::encode::vectors_job::VectorsJob;
use crate::{Movie, SplitChoice, Vectors};

/// The folder beside `output` that holds the finished chunks of an interrupted job.
#[must_use]
pub fn checkpoint_folder(output: &Path) -> PathBuf {
    chunks::folder_of(output)
}

/// What to encode, and how.
#[derive(Debug, Clone)]
pub struct EncodeJob {
    /// The movies.
    pub source: MovieSource,
    /// The file to write.
    pub output: PathBuf,
    /// The template that composes a text from a movie.
    pub template: InputTemplate,
    /// Movies in a chunk. An interruption loses at most one chunk and the calls in flight.
    pub chunk: usize,
    /// How movies are divided into calls.
    pub load: Load,
    /// Discards the checkpoint of another job, and replaces an output of other movies or another
    /// encoder.
    pub restart: bool,
    /// Encodes only this shard of the movies.
    pub shard: Option<Shard>,
}

/// The outcome of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeOutcome {
    /// The output already existed, with the same movies and the same encoder.
    NothingToDo {
        /// Movies in it.
        movies: usize,
    },
    /// The output was written.
    Encoded {
        /// Movies in it.
        movies: usize,
        /// Movies among them that an earlier, interrupted run encoded.
        resumed: usize,
    },
}

/// Runs the job. If it is dropped or killed, the next run continues with the first unfinished
/// chunk.
pub async fn run(job: &EncodeJob, client: &BulkEncoder) -> Result<EncodeOutcome, EncodeError> {
    run_on(job, client, job.source.inventory()?).await
}

/// Runs one shard of a job and publishes it, with its manifest, to a folder of shards. `job.output`
/// is the working folder for shards that are stored remotely.
pub async fn run_shard(
    job: &EncodeJob,
    shard: Shard,
    folder: &ShardFolder,
    client: &BulkEncoder,
) -> Result<EncodeOutcome, EncodeError> {
    let inventory = job.source.inventory()?;
    let all = inventory.ids.len();
    let header = header(client, &job.template, &inventory);
    let output = folder.working_file(shard, &job.output);
    if !job.restart {
        match folder.checkpoint(shard, &header, all).await? {
            Checkpoint::Absent => {}
            Checkpoint::SameJob => return Ok(EncodeOutcome::NothingToDo { movies: shard.movies(all).len() }),
            Checkpoint::OtherJob(differences) => {
                let ids = inventory.ids[shard.movies(all)].to_vec();
                let part = Inventory { ids, ..inventory.clone() };
                let file = VectorsChunks { header: &header, inventory: &part, chunk: job.chunk.max(1) };
                // An interrupted job that replaces the shard continues: it left chunks, or the whole file.
                let continues = chunks::checkpoint(&output, &file)? == Checkpoint::SameJob
                    || checkpoint(&output, &header, part.ids.len()) == Checkpoint::SameJob;
                if !continues {
                    return Err(EncodeError::OtherOutput { path: output, differences });
                }
            }
        }
    }
    let job = EncodeJob { output: output.clone(), shard: Some(shard), ..job.clone() };
    let outcome = run_on(&job, client, inventory).await?;
    folder.publish(&output, shard, &header, all).await?;
    Ok(outcome)
}

fn header(client: &BulkEncoder, template: &InputTemplate, inventory: &Inventory) -> VectorsHeader {
    VectorsHeader {
        encoder: client.description().identity.clone(),
        dimension: client.description().dimension,
        template: template.clone(),
        data_digest: inventory.data_digest.clone(),
        labels: inventory.labels.clone(),
    }
}

async fn run_on(
    job: &EncodeJob,
    client: &BulkEncoder,
    mut inventory: Inventory,
) -> Result<EncodeOutcome, EncodeError> {
    let header = header(client, &job.template, &inventory);
    let range = job.shard.map_or(0..inventory.ids.len(), |shard| shard.movies(inventory.ids.len()));
    inventory.ids = inventory.ids[range.clone()].to_vec();
    let (movies, chunk) = (inventory.ids.len(), job.chunk.max(1));
    let file = VectorsChunks { header: &header, inventory: &inventory, chunk };
    if !job.restart {
        match checkpoint(&job.output, &header, movies) {
            Checkpoint::Absent => {}
            Checkpoint::SameJob => {
                chunks::remove_leftovers(&job.output)?;
                return Ok(EncodeOutcome::NothingToDo { movies });
            }
            // An interrupted job that replaces the output continues.
            Checkpoint::OtherJob(_) if chunks::checkpoint(&job.output, &file)? == Checkpoint::SameJob => {}
            Checkpoint::OtherJob(differences) => {
                return Err(EncodeError::OtherOutput { path: job.output.clone(), differences });
            }
        }
    }

    let chunks = Chunks::open(&job.output, file, movies, chunk, job.restart)?;
    let movies_left = Box::new(job.source.open()?.skip(range.start));
    let division = Division { rows: movies, chunk, is_done: chunks.finished() };
    let resumed = division.done();
    let compose = |movie: &Movie| {
        let (title, overview) = (&movie.title, &movie.overview);
        (job.template.compose(title, overview), job.template.words(title, overview))
    };
    let mut rows = VectorRows::default();
    let take = |place: Place, mut batch: VectorRows| {
        rows.append(&mut batch);
        if place.is_last { chunks.write(place.chunk, std::mem::take(&mut rows)) } else { Ok(()) }
    };
    encode(client, job.load, division, &inventory, movies_left, compose, take).await?;
    chunks.merge(&job.output, |_| {})?;
    Ok(EncodeOutcome::Encoded { movies, resumed })
}

/// Encodes the movies of `inventory` and passes their vectors to `take`, in the order of the movies.
/// `compose` turns a movie into its text and word features.
async fn encode(
    client: &BulkEncoder,
    load: Load,
    division: Division,
    inventory: &Inventory,
    movies: Movies,
    compose: impl Fn(&Movie) -> (String, WordFeatures),
    take: impl FnMut(Place, VectorRows) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let movies = movies.zip(&inventory.ids).map(|(movie, id)| {
        let movie = movie?;
        if movie.id == *id { Ok(movie) } else { Err(EncodeError::SourceChanged) }
    });
    let work = async |movies: Vec<Movie>| {
        let (texts, word_features) = movies.iter().map(&compose).unzip();
        let values = client.encode(texts).await?.values.into_raw_vec_and_offset().0;
        let overviews = movies.iter().map(|movie| overview_hash(&movie.overview)).collect();
        let (ids, labels) = movies.into_iter().map(|movie| (movie.id, movie.labels)).unzip();
        Ok(VectorRows { ids, labels, values, word_features, overviews })
    };
    batches::in_order(client, load, division, "texts", stream::iter(movies), work, take).await
}

/// Encodes the chosen movies of a source and keeps their vectors in memory. Without `with_title`,
/// texts are composed as for movies that have no title.
pub async fn encode_in_memory(
    source: &MovieSource,
    choice: SplitChoice,
    client: &BulkEncoder,
    template: &InputTemplate,
    with_title: bool,
) -> Result<Vectors, EncodeError> {
    let mut inventory = source.inventory()?;
    inventory.ids.retain(|id| choice.contains(*id));
    let is_chosen =
        move |movie: &Result<Movie, _>| movie.as_ref().map_or(true, |movie| choice.contains(movie.id));
    let movies = Box::new(source.open()?.filter(is_chosen));
    let rows = inventory.ids.len();
    let division = Division { rows, chunk: rows.max(1), is_done: vec![false] };
    let compose = |movie: &Movie| {
        let (title, overview) = (if with_title { &movie.title } else { "" }, &movie.overview);
        (template.compose(title, overview), template.words(title, overview))
    };
    let mut rows = VectorRows::default();
    let take = |_: Place, mut batch: VectorRows| {
        rows.append(&mut batch);
        Ok(())
    };
    encode(client, Load::default(), division, &inventory, movies, compose, take).await?;
    Ok(Vectors::from_rows(rows, header(client, template, &inventory)))
}

/// The identity of a finished output.
#[derive(Serialize)]
struct Output {
    #[serde(flatten)]
    vectors: VectorsJob,
    movies: usize,
}

/// Returns what `output` holds, for a job that writes `movies` vectors with this header.
fn checkpoint(output: &Path, header: &VectorsHeader, movies: usize) -> Checkpoint {
    if !output.exists() {
        return Checkpoint::Absent;
    }
    match found_in(output) {
        Ok(found) => Checkpoint::compare(&Output { vectors: header.into(), movies }, &found),
        Err(error) => Checkpoint::unreadable(error.reason()),
    }
}

/// Verifies a finished output, a batch at a time because it may be larger than memory. It may have no
/// movies, as a shard of few.
fn found_in(output: &Path) -> Result<Output, TableError> {
    let (mut reader, mut movies) = (VectorsReader::open(output)?, 0);
    while let Some(rows) = reader.next_rows()? {
        movies += rows.ids.len();
    }
    Ok(Output { vectors: reader.header().into(), movies })
}
