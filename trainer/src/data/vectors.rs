//! Vectors and targets in memory, as arithmetic wants them.

use std::collections::HashSet;
use std::path::Path;

use genre_model::{EncoderIdentity, GENRES, InputTemplate, WordFeatures};
use ndarray::{Array2, Axis};

use crate::Split;
use crate::data::table_file::TableError;
use crate::data::vectors_file::{VectorRows, VectorsHeader, VectorsReader};

/// Movies with their vectors and labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// TMDB ids, all different.
    pub ids: Vec<u64>,
    /// Each movie's part, by its id.
    pub splits: Vec<Split>,
    /// Shape `[movies, 20]`: 1 where the movie carries the genre of that column in [`GENRES`], else 0.
    pub targets: Array2<f32>,
    /// Shape `[movies, dimension]`; finite.
    pub vectors: Array2<f32>,
    /// Each movie's words.
    pub words: Vec<WordFeatures>,
    /// The encoder that made the vectors.
    pub encoder: EncoderIdentity,
    /// How a movie became the text that was encoded.
    pub template: InputTemplate,
    /// SHA-256 over all movies of the source.
    pub data_digest: String,
}

impl Vectors {
    /// Reads and verifies a whole file.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let mut reader = VectorsReader::open(path)?;
        // Floats are not compressed: a footer that promises more movies than the file has room for is not believed.
        let bytes = std::fs::metadata(path).map_err(|error| TableError::io(path, error))?.len();
        let (movies, dimension) = (reader.len(), reader.header().dimension);
        let room = usize::try_from(bytes).unwrap_or(usize::MAX) / (4 * dimension);
        let mut all = VectorRows::with_capacity(movies.min(room), dimension);
        while let Some(mut rows) = reader.next_rows()? {
            all.append(&mut rows);
        }
        Self::checked(all, reader.header().clone(), path)
    }

    /// Puts rows in matrices, and rejects a movie that appears twice and a table without movies.
    pub(crate) fn checked(all: VectorRows, header: VectorsHeader, path: &Path) -> Result<Self, TableError> {
        let mut seen = HashSet::with_capacity(all.ids.len());
        if let Some(twin) = all.ids.iter().find(|id| !seen.insert(**id)) {
            return Err(TableError::invalid(
                path,
                format!("expected each movie once, found movie {twin} twice"),
            ));
        }
        if all.ids.is_empty() {
            return Err(TableError::invalid(path, "expected movies, found none"));
        }
        Ok(Self::from_rows(all, header))
    }

    /// Puts rows in matrices.
    ///
    /// # Panics
    /// If there are not `header.dimension` floats and a movie's words for each movie.
    #[must_use]
    pub fn from_rows(rows: VectorRows, header: VectorsHeader) -> Self {
        let movies = rows.ids.len();
        assert_eq!(rows.words.len(), movies, "the words of each movie");
        let has = |(movie, genre): (usize, usize)| f32::from(u8::from(rows.genres[movie].contains(genre)));
        Self {
            splits: rows.ids.iter().map(|id| Split::of(*id)).collect(),
            targets: Array2::from_shape_fn((movies, GENRES.len()), has),
            vectors: Array2::from_shape_vec((movies, header.dimension), rows.values)
                .expect("one vector of the header's dimension for each movie"),
            words: rows.words,
            ids: rows.ids,
            encoder: header.encoder,
            template: header.template,
            data_digest: header.data_digest,
        }
    }

    /// The movies of one part, in the same order; possibly none.
    #[must_use]
    pub fn subset(&self, split: Split) -> Self {
        let rows: Vec<usize> = (0..self.len()).filter(|row| self.splits[*row] == split).collect();
        Self {
            ids: rows.iter().map(|row| self.ids[*row]).collect(),
            splits: vec![split; rows.len()],
            targets: self.targets.select(Axis(0), &rows),
            vectors: self.vectors.select(Axis(0), &rows),
            words: rows.iter().map(|row| self.words[*row].clone()).collect(),
            encoder: self.encoder.clone(),
            template: self.template.clone(),
            data_digest: self.data_digest.clone(),
        }
    }

    /// What the vectors have in common.
    #[must_use]
    pub fn header(&self) -> VectorsHeader {
        VectorsHeader {
            encoder: self.encoder.clone(),
            dimension: self.dimension(),
            template: self.template.clone(),
            data_digest: self.data_digest.clone(),
        }
    }

    /// Number of movies.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no movie.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Floats in a vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.vectors.ncols()
    }
}
