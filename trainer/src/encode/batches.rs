//! The encode loop: movies in batches, with enough calls in flight that the encoder is never idle.
//!
//! Concurrency and order come from `buffered` of futures-util; only the cut into chunks is our own.

use std::pin::pin;

use encoder_client::BulkEncoder;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use genre_model::WordFeatures;

use crate::data::movie::overview_hash;
use crate::data::movie_source::{Inventory, Movies};
use crate::data::vectors_file::VectorRows;
use crate::encode::error::EncodeError;
use crate::{Movie, Progress};

/// How movies are divided into calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Texts in one call. The encoder's own limit applies as well.
    pub batch: usize,
    /// Calls in flight for each replica of the encoder.
    pub in_flight: usize,
}

impl Default for Load {
    /// 256 texts in flight: seconds of work for a CPU, so the encoder never waits for this process.
    fn default() -> Self {
        Self { batch: 16, in_flight: 16 }
    }
}

/// The movies of one call. A batch never spans two chunks.
pub(crate) struct Batch {
    pub(crate) chunk: usize,
    /// Whether this is the last batch of its chunk.
    pub(crate) is_last: bool,
    movies: Vec<Movie>,
}

/// The vectors of a batch.
pub(crate) struct EncodedBatch {
    pub(crate) chunk: usize,
    pub(crate) is_last: bool,
    pub(crate) rows: VectorRows,
}

/// Divides movies into chunks of fixed size, and chunks into batches. Skips the chunks that are
/// done.
pub(crate) struct Batches<'a> {
    movies: Movies,
    inventory: &'a Inventory,
    chunk_size: usize,
    batch_size: usize,
    is_done: Vec<bool>,
    position: usize,
}

impl<'a> Batches<'a> {
    /// Divides the movies of `inventory`. `is_done` has one entry per chunk of `chunk_size` movies.
    pub(crate) fn new(
        movies: Movies,
        inventory: &'a Inventory,
        chunk_size: usize,
        is_done: Vec<bool>,
    ) -> Self {
        Self { movies, inventory, chunk_size, batch_size: 1, is_done, position: 0 }
    }

    /// Reads the next movie and checks that the inventory has it at this position.
    fn movie(&mut self) -> Result<Movie, EncodeError> {
        let movie = self.movies.next().ok_or(EncodeError::SourceChanged)??;
        if movie.id != self.inventory.ids[self.position] {
            return Err(EncodeError::SourceChanged);
        }
        self.position += 1;
        Ok(movie)
    }

    /// Returns the number of movies in the chunks that are done.
    pub(crate) fn done(&self) -> usize {
        let movies = self.inventory.ids.chunks(self.chunk_size).zip(&self.is_done);
        movies.filter(|(_, is_done)| **is_done).map(|(chunk, _)| chunk.len()).sum()
    }

    fn batch(&mut self) -> Result<Option<Batch>, EncodeError> {
        let movies = self.inventory.ids.len();
        while self.position < movies {
            let chunk = self.position / self.chunk_size;
            let end = movies.min((chunk + 1) * self.chunk_size);
            if self.is_done[chunk] {
                while self.position < end {
                    self.movie()?;
                }
                continue;
            }
            let size = self.batch_size.min(end - self.position);
            let movies = (0..size).map(|_| self.movie()).collect::<Result<_, _>>()?;
            return Ok(Some(Batch { chunk, is_last: self.position == end, movies }));
        }
        Ok(None)
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, EncodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

/// Encodes all movies of `batches` and passes their vectors to `take`, in the order of the movies.
/// `compose` turns a movie into its text and word features.
pub(crate) async fn encode(
    client: &BulkEncoder,
    compose: impl Fn(&Movie) -> (String, WordFeatures) + Copy,
    mut batches: Batches<'_>,
    load: Load,
    mut take: impl FnMut(EncodedBatch) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    batches.batch_size = load.batch.clamp(1, client.description().max_batch_size);
    let progress = Progress::new(batches.inventory.ids.len(), "texts");
    progress.skip(batches.done());
    let encode_one = move |batch: Result<Batch, EncodeError>| async move {
        let Batch { chunk, is_last, movies } = batch?;
        let (texts, word_features) = movies.iter().map(compose).unzip();
        let values = client.encode(texts).await?.values.into_raw_vec_and_offset().0;
        let overviews = movies.iter().map(|movie| overview_hash(&movie.overview)).collect();
        let (ids, labels) = movies.into_iter().map(|movie| (movie.id, movie.labels)).unzip();
        Ok::<_, EncodeError>(EncodedBatch {
            chunk,
            is_last,
            rows: VectorRows { ids, labels, values, word_features, overviews },
        })
    };
    let calls = load.in_flight.max(1) * client.replicas();
    let mut encoded = pin!(stream::iter(batches).map(encode_one).buffered(calls));
    while let Some(batch) = encoded.try_next().await? {
        progress.advance(batch.rows.ids.len());
        take(batch)?;
    }
    progress.finish();
    let shortened = client.shortened();
    if shortened > 0 {
        let limit = client.description().max_text_bytes;
        tracing::warn!("cut {shortened} texts to the {limit} bytes that the encoder accepts");
    }
    Ok(())
}
