//! Vectors and targets in memory, as matrices.

use std::collections::HashSet;
use std::path::Path;

use genre_model::{EncoderIdentity, InputTemplate, LabelSet, WordFeatures};
use ndarray::{Array2, Axis};
use sha2::{Digest as _, Sha256};

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
    /// Shape `[movies, labels]`: 1 where the movie has the label at that index of the set, 0 where it
    /// has not, NaN where nobody knows.
    pub targets: Array2<f32>,
    /// Shape `[movies, dimension]`; finite.
    pub vectors: Array2<f32>,
    /// The word features of each movie.
    pub word_features: Vec<WordFeatures>,
    /// The [hash of each movie's overview](crate::data::movie::overview_hash).
    pub overviews: Vec<u64>,
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
    /// If a movie lacks its `header.dimension` floats, its word features or the hash of its overview.
    #[must_use]
    pub fn from_rows(rows: VectorRows, header: VectorsHeader) -> Self {
        let movies = rows.ids.len();
        assert_eq!(rows.word_features.len(), movies, "word features for each movie");
        assert_eq!(rows.overviews.len(), movies, "a hash of each movie's overview");
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
            overviews: rows.overviews,
            ids: rows.ids,
            encoder: header.encoder,
            template: header.template,
            data_digest: header.data_digest,
        }
    }

    /// Declares that the source does not know a label: movies without it may have it.
    pub fn set_unknown(&mut self, label: usize) {
        self.targets.column_mut(label).mapv_inplace(|target| if target > 0.5 { target } else { f32::NAN });
    }

    /// Returns the movies of all tables, in order. Of movies with one id the first counts.
    ///
    /// # Errors
    /// Names what differs if the tables are not of one encoder, template and label set.
    ///
    /// # Panics
    /// If there are no tables.
    pub fn concatenated(tables: &[Self]) -> Result<Self, &'static str> {
        let first = &tables[0];
        Self::check_alike(tables)?;
        let mut seen = HashSet::new();
        let kept: Vec<Self> = tables
            .iter()
            .map(|table| {
                let rows: Vec<usize> = (0..table.len()).filter(|row| seen.insert(table.ids[*row])).collect();
                table.select(&rows)
            })
            .collect();
        let matrices = |of: fn(&Self) -> ndarray::ArrayView2<'_, f32>| {
            let views: Vec<_> = kept.iter().map(of).collect();
            ndarray::concatenate(Axis(0), &views).expect("matrices with the same columns")
        };
        let (vectors, targets) =
            (matrices(|table| table.vectors.view()), matrices(|table| table.targets.view()));
        Ok(Self {
            vectors,
            targets,
            ids: kept.iter().flat_map(|table| &table.ids).copied().collect(),
            splits: kept.iter().flat_map(|table| &table.splits).copied().collect(),
            overviews: kept.iter().flat_map(|table| &table.overviews).copied().collect(),
            word_features: kept.iter().flat_map(|table| &table.word_features).cloned().collect(),
            labels: first.labels.clone(),
            encoder: first.encoder.clone(),
            template: first.template.clone(),
            data_digest: Self::joint_digest(tables),
        })
    }

    /// Names what differs if the tables are not of one encoder, template and label set.
    pub(crate) fn check_alike<'a>(tables: impl IntoIterator<Item = &'a Self>) -> Result<(), &'static str> {
        let mut tables = tables.into_iter();
        let Some(first) = tables.next() else { return Ok(()) };
        tables.try_for_each(|table| match table {
            _ if table.encoder != first.encoder => Err("encoder"),
            _ if table.template != first.template => Err("template"),
            _ if table.labels != first.labels => Err("label set"),
            _ => Ok(()),
        })
    }

    /// The digest of the source of a table, or a digest of the digests of several.
    pub(crate) fn joint_digest<'a>(tables: impl IntoIterator<Item = &'a Self>) -> String {
        let digests: Vec<&str> = tables.into_iter().map(|table| &*table.data_digest).collect();
        match digests[..] {
            [only] => only.to_owned(),
            _ => hex::encode(Sha256::digest(digests.join("\n"))),
        }
    }

    /// Returns the movies of one split, in the same order; there may be none.
    #[must_use]
    pub fn subset(&self, split: Split) -> Self {
        let rows: Vec<usize> = (0..self.len()).filter(|row| self.splits[*row] == split).collect();
        self.select(&rows)
    }

    /// Returns these movies, in this order.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        Self {
            ids: rows.iter().map(|row| self.ids[*row]).collect(),
            splits: rows.iter().map(|row| self.splits[*row]).collect(),
            labels: self.labels.clone(),
            targets: self.targets.select(Axis(0), rows),
            vectors: self.vectors.select(Axis(0), rows),
            word_features: rows.iter().map(|row| self.word_features[*row].clone()).collect(),
            overviews: rows.iter().map(|row| self.overviews[*row]).collect(),
            encoder: self.encoder.clone(),
            template: self.template.clone(),
            data_digest: self.data_digest.clone(),
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
