//! Movies from either form: Kaggle's CSV or the table that `prepare` writes.

use std::path::{Path, PathBuf};

use crate::data::ingest::columns::Layout;
use crate::data::movies_file::MoviesReader;
use crate::data::table_file::TableError;
use crate::{DataDigest, KaggleError, KaggleReader, Movie};

/// Where movies are read from; it can be read more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MovieSource {
    /// Kaggle's `movies_metadata.csv`.
    Kaggle(PathBuf),
    /// Such a table, laid out otherwise.
    Table(PathBuf, Layout),
    /// A table written by `prepare`.
    MoviesFile(PathBuf),
}

/// Why movies cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MovieSourceError {
    /// From a CSV file.
    #[error(transparent)]
    Kaggle(#[from] KaggleError),
    /// From a table.
    #[error("movies file {0}")]
    Table(#[from] TableError),
}

/// Movies in order, until the first error.
pub type Movies = Box<dyn Iterator<Item = Result<Movie, MovieSourceError>>>;

/// A source's movies by id, and the digest over all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// TMDB ids in order.
    pub ids: Vec<u64>,
    /// [`DataDigest`] over the movies.
    pub data_digest: String,
}

impl MovieSource {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Kaggle(path) | Self::Table(path, _) | Self::MoviesFile(path) => path,
        }
    }

    /// Reads from the beginning.
    pub fn open(&self) -> Result<Movies, MovieSourceError> {
        Ok(match self {
            Self::Kaggle(path) => Box::new(KaggleReader::open(path)?.map(|movie| Ok(movie?))),
            Self::Table(path, layout) => {
                Box::new(KaggleReader::open_with(path, layout)?.map(|movie| Ok(movie?)))
            }
            Self::MoviesFile(path) => Box::new(MoviesReader::open(path)?.map(|movie| Ok(movie?))),
        })
    }

    /// Reads all movies once, and keeps their ids only.
    pub fn inventory(&self) -> Result<Inventory, MovieSourceError> {
        let (mut ids, mut digest) = (Vec::new(), DataDigest::default());
        for movie in self.open()? {
            let movie = movie?;
            digest.add(&movie);
            ids.push(movie.id);
        }
        Ok(Inventory { ids, data_digest: digest.finish() })
    }
}
