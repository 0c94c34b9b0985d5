//! Movies from a table of any form or from the table that `prepare` writes.

use std::path::PathBuf;

use genre_model::LabelSet;
use movie_table::Source;

use crate::data::ingest::reader::{IngestError, IngestOptions, MovieReader};
use crate::data::movies_file::MoviesReader;
use crate::data::table_file::TableError;
use crate::{DataDigest, Movie};

/// A source of movies that can be read more than once.
#[derive(Debug, Clone)]
pub enum MovieSource {
    /// A table of movies from outside.
    Table(Source, IngestOptions),
    /// A table written by `prepare`.
    MoviesFile(PathBuf),
}

/// Why movies cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MovieSourceError {
    /// From a table from outside.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// From a table of `prepare`.
    #[error("movies file {0}")]
    Table(#[from] TableError),
}

/// Movies in order, until the first error.
pub type Movies = Box<dyn Iterator<Item = Result<Movie, MovieSourceError>>>;

/// The ids of a source's movies, and the digest over the movies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// TMDB ids in order.
    pub ids: Vec<u64>,
    /// [`DataDigest`] over the movies.
    pub data_digest: String,
    /// The label set of the movies.
    pub labels: LabelSet,
}

impl MovieSource {
    /// Opens the source at its beginning.
    pub fn open(&self) -> Result<Movies, MovieSourceError> {
        Ok(match self {
            Self::Table(source, options) => {
                Box::new(MovieReader::open(source, options)?.map(|movie| Ok(movie?)))
            }
            Self::MoviesFile(path) => Box::new(MoviesReader::open(path)?.map(|movie| Ok(movie?))),
        })
    }

    /// The label set of the movies.
    pub fn labels(&self) -> Result<LabelSet, MovieSourceError> {
        match self {
            Self::Table(_, options) => Ok(options.labels.clone()),
            Self::MoviesFile(path) => Ok(MoviesReader::open(path)?.labels().clone()),
        }
    }

    /// Reads all movies once and keeps only their ids.
    pub fn inventory(&self) -> Result<Inventory, MovieSourceError> {
        let labels = self.labels()?;
        let (mut ids, mut digest) = (Vec::new(), DataDigest::new(labels.clone()));
        for movie in self.open()? {
            let movie = movie?;
            digest.add(&movie);
            ids.push(movie.id);
        }
        Ok(Inventory { ids, data_digest: digest.finish(), labels })
    }
}
