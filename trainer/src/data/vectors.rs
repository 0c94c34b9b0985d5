//! Vectors and targets in memory, as matrices.

use std::collections::HashSet;
use std::path::Path;

use genre_model::{EncoderIdentity, InputTemplate, LabelSet, WordFeatures};
use ndarray::{Array2, Axis};

use crate::data::table_file::TableError;
use crate::data::vectors_file::{VectorRows, VectorsHeader, VectorsReader};
use crate::{FileError, Split};

/// Movies with their vectors, labels and word features.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// TMDB ids, all different.
    pub ids: Vec<u64>,
    /// The split of each movie, by its id.
    pub splits: Vec<Split>,
    /// The label set of the movies.
    pub labels: LabelSet,
    /// Shape `[movies, labels]`: 1 where the movie has the label at that index of the set, else 0.
    pub targets: Array2<f32>,
    /// Shape `[movies, dimension]`; finite.
    pub vectors: Array2<f32>,
    /// The word features of each movie.
    pub word_features: Vec<WordFeatures>,
    /// The encoder that made the vectors.
    pub encoder: EncoderIdentity,
    /// The template that composed the encoded texts.
    pub template: InputTemplate,
    /// SHA-256 over all movies of the source.
    pub data_digest: String,
}

impl Vectors {
    /// Reads and verifies a whole file.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let mut reader = VectorsReader::open(path)?;
        // Floats are not compressed, so the size of the file limits how many movies its footer can
        // be trusted for.
        let bytes = std::fs::metadata(path).map_err(FileError::at(path))?.len();
        let (movies, dimension) = (reader.len(), reader.header().dimension);
        let room = usize::try_from(bytes).unwrap_or(usize::MAX) / (4 * dimension);
        let mut all = VectorRows::with_capacity(movies.min(room), dimension);
        while let Some(mut rows) = reader.next_rows()? {
            all.append(&mut rows);
        }
        Self::checked(all, reader.header().clone(), path)
    }

    /// As [`from_rows`](Self::from_rows), but rejects a movie that appears twice and a table
    /// without movies.
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

    /// Arranges rows in matrices.
    ///
    /// # Panics
    /// If a movie lacks its `header.dimension` floats or its word features.
    #[must_use]
    pub fn from_rows(rows: VectorRows, header: VectorsHeader) -> Self {
        let movies = rows.ids.len();
        assert_eq!(rows.word_features.len(), movies, "word features for each movie");
        let mut targets = Array2::zeros((movies, header.labels.len()));
        for (mut row, labels) in targets.rows_mut().into_iter().zip(&rows.labels) {
            labels.indices().for_each(|label| row[label] = 1.0);
        }
        Self {
            splits: rows.ids.iter().map(|id| Split::of(*id)).collect(),
            targets,
            labels: header.labels,
            vectors: Array2::from_shape_vec((movies, header.dimension), rows.values)
                .expect("one vector of the header's dimension for each movie"),
            word_features: rows.word_features,
            ids: rows.ids,
            encoder: header.encoder,
            template: header.template,
            data_digest: header.data_digest,
        }
    }

    /// Returns the movies of one split, in the same order; there may be none.
    #[must_use]
    pub fn subset(&self, split: Split) -> Self {
        let rows: Vec<usize> = (0..self.len()).filter(|row| self.splits[*row] == split).collect();
        Self {
            ids: rows.iter().map(|row| self.ids[*row]).collect(),
            splits: vec![split; rows.len()],
            labels: self.labels.clone(),
            targets: self.targets.select(Axis(0), &rows),
            vectors: self.vectors.select(Axis(0), &rows),
            word_features: rows.iter().map(|row| self.word_features[*row].clone()).collect(),
            encoder: self.encoder.clone(),
            template: self.template.clone(),
            data_digest: self.data_digest.clone(),
        }
    }

    /// The metadata that all vectors share.
    #[must_use]
    pub fn header(&self) -> VectorsHeader {
        VectorsHeader {
            encoder: self.encoder.clone(),
            dimension: self.dimension(),
            template: self.template.clone(),
            data_digest: self.data_digest.clone(),
            labels: self.labels.clone(),
        }
    }

    /// Number of movies.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no movies.
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
