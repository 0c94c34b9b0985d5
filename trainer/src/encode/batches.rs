//! Many movies through the encoder, with several calls under way so that it is never idle.

use futures_util::stream::{self, Stream, StreamExt as _};

use genre_model::WordFeatures;

use crate::Movie;
use crate::data::movie_source::{Inventory, Movies};
use crate::data::vectors_file::VectorRows;
use crate::encode::encoder_client::EncoderClient;
use crate::encode::error::EncodeError;

/// How movies are cut into calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Texts in one call; the encoder's own limit holds as well.
    pub batch: usize,
    /// Calls under way at the same time, for each replica of the encoder.
    pub in_flight: usize,
}

impl Default for Load {
    /// 256 texts under way: seconds of work for a CPU, so that it never waits for this process.
    fn default() -> Self {
        Self { batch: 16, in_flight: 16 }
    }
}

/// Movies of one call. None spans two chunks.
pub(crate) struct Batch {
    pub(crate) chunk: usize,
    /// Whether the chunk ends with it.
    pub(crate) is_last: bool,
    movies: Vec<Movie>,
}

/// Their vectors.
pub(crate) struct EncodedBatch {
    pub(crate) chunk: usize,
    pub(crate) is_last: bool,
    pub(crate) rows: VectorRows,
}

/// Cuts movies into chunks of fixed size and those into batches, and leaves out the chunks that are done.
pub(crate) struct Batches<'a> {
    pub(crate) movies: Movies,
    pub(crate) inventory: &'a Inventory,
    pub(crate) chunk_size: usize,
    pub(crate) batch_size: usize,
    pub(crate) is_done: Vec<bool>,
    pub(crate) position: usize,
}

impl Batches<'_> {
    /// Reads the next movie, which must be the one that the inventory has there.
    fn movie(&mut self) -> Result<Movie, EncodeError> {
        let movie = self.movies.next().ok_or(EncodeError::SourceChanged)??;
        if movie.id != self.inventory.ids[self.position] {
            return Err(EncodeError::SourceChanged);
        }
        self.position += 1;
        Ok(movie)
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

/// Encodes batches, a movie's text and words as `compose` makes them, in their order, `in_flight` at a time.
pub(crate) fn encode<'a>(
    client: &'a EncoderClient,
    compose: impl Fn(&Movie) -> (String, WordFeatures) + Copy + 'a,
    batches: impl Iterator<Item = Result<Batch, EncodeError>> + 'a,
    in_flight: usize,
) -> impl Stream<Item = Result<EncodedBatch, EncodeError>> + 'a {
    let encode_one = move |batch: Result<Batch, EncodeError>| async move {
        let Batch { chunk, is_last, movies } = batch?;
        let (texts, words) = movies.iter().map(compose).unzip();
        let values = client.encode(texts).await?;
        let (ids, genres) = movies.iter().map(|movie| (movie.id, movie.genres)).unzip();
        Ok(EncodedBatch { chunk, is_last, rows: VectorRows { ids, genres, values, words } })
    };
    stream::iter(batches).map(encode_one).buffered(in_flight.max(1) * client.replicas())
}
