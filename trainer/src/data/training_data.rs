//! The movies that a fit may see: training and validation, never test.

use std::collections::HashSet;
use std::fmt;

use genre_model::{EncoderIdentity, InputTemplate, LabelSet, WordFeatures};
use linfa::dataset::Dataset;
use ndarray::{Array2, Ix2};
use sha2::{Digest as _, Sha256};

use crate::{Split, Vectors};

/// Vectors of shape `[rows, dimension]` and targets of shape `[rows, labels]`: 1, 0, or NaN where
/// nobody knows whether the movie has the label.
pub type LabelledVectors = Dataset<f32, f32, Ix2>;

/// The movies of one table of vectors, and what a fit may conclude from them.
#[derive(Debug, Clone)]
pub struct FittingSource<'a> {
    /// All movies of the table. Its test movies stay behind.
    pub vectors: &'a Vectors,
    /// Whether the validation movies of the source are left out, too.
    pub is_train_only: bool,
}

/// Training and validation movies of one encoder. No constructor admits a test movie.
#[derive(Debug, Clone)]
pub struct FittingData {
    train: LabelledVectors,
    validation: LabelledVectors,
    train_word_features: Vec<WordFeatures>,
    validation_word_features: Vec<WordFeatures>,
    encoder: EncoderIdentity,
    template: InputTemplate,
    data_digest: String,
    labels: LabelSet,
    dropped: Copies,
}

/// Movies left out because they appear twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copies {
    /// Movies with the id of an earlier movie.
    pub by_id: usize,
    /// Training movies with the overview of an earlier training movie.
    pub of_train: usize,
    /// Training movies with the overview of a validation or test movie.
    pub of_held_out: usize,
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by_id, of_train, of_held_out } = self;
        write!(
            f,
            "{by_id} movies with the id of an earlier one, {of_train} training movies with the overview of an earlier \
             one, {of_held_out} with that of a validation or test movie"
        )
    }
}

/// Why movies may not be used in a fit.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FittingDataError {
    /// A split has no movies.
    #[error("expected {expected} movies, found none; left out {dropped}")]
    Empty {
        /// The split.
        expected: Split,
        /// The movies that were left out before.
        dropped: Copies,
    },
    /// The sources do not belong together.
    #[error("expected vectors of one encoder, template and label set, found different {what}s")]
    Different {
        /// What differs.
        what: &'static str,
    },
}

/// Rows taken out of several sources.
#[derive(Default)]
struct Rows {
    values: Vec<f32>,
    targets: Vec<f32>,
    word_features: Vec<WordFeatures>,
}

impl Rows {
    fn push(&mut self, source: &FittingSource<'_>, row: usize) {
        let vectors = source.vectors;
        self.values.extend(vectors.vectors.row(row));
        self.targets.extend(vectors.targets.row(row));
        self.word_features.push(vectors.word_features[row].clone());
    }

    fn finish(self, dimension: usize, labels: usize) -> (LabelledVectors, Vec<WordFeatures>) {
        let rows = self.word_features.len();
        let matrix =
            |columns, values| Array2::from_shape_vec((rows, columns), values).expect("columns of each row");
        (Dataset::new(matrix(dimension, self.values), matrix(labels, self.targets)), self.word_features)
    }
}

impl FittingData {
    /// Takes the training and validation movies out of `vectors` and leaves its test movies behind.
    pub fn of(vectors: &Vectors) -> Result<Self, FittingDataError> {
        Self::join(&[FittingSource { vectors, is_train_only: false }])
    }

    /// Joins the movies of several sources. The split of a movie follows from its id, whatever the
    /// source states. Of movies with one id the first counts. A training movie is left out if its
    /// overview is that of an earlier training movie, or of a held-out movie of any source.
    ///
    /// # Panics
    /// If there are no sources.
    pub fn join(sources: &[FittingSource<'_>]) -> Result<Self, FittingDataError> {
        let first = sources[0].vectors;
        Vectors::check_alike(sources.iter().map(|source| source.vectors))
            .map_err(|what| FittingDataError::Different { what })?;
        let (mut dropped, mut ids, mut held_out) = (Copies::default(), HashSet::new(), HashSet::new());
        let (mut candidates, mut validation) = (Vec::new(), Rows::default());
        for source in sources {
            for (row, (id, overview)) in source.vectors.ids.iter().zip(&source.vectors.overviews).enumerate()
            {
                let split = Split::of(*id);
                if split != Split::Train {
                    // Also of a copy by id, because a movie may be measured with any of its overviews.
                    held_out.insert(*overview);
                    if source.is_train_only {
                        // It counts as no movie of its id, so that another source may validate on it.
                        continue;
                    }
                }
                if !ids.insert(*id) {
                    dropped.by_id += 1;
                } else if split == Split::Train {
                    candidates.push((source, row, *overview));
                } else if split == Split::Validation {
                    validation.push(source, row);
                }
            }
        }
        let (mut train, mut seen) = (Rows::default(), HashSet::new());
        for (source, row, overview) in candidates {
            if held_out.contains(&overview) {
                dropped.of_held_out += 1;
            } else if seen.insert(overview) {
                train.push(source, row);
            } else {
                dropped.of_train += 1;
            }
        }
        for (rows, expected) in [(&train, Split::Train), (&validation, Split::Validation)] {
            if rows.word_features.is_empty() {
                return Err(FittingDataError::Empty { expected, dropped });
            }
        }
        let (dimension, labels) = (first.dimension(), first.labels.len());
        let (train, train_word_features) = train.finish(dimension, labels);
        let (validation, validation_word_features) = validation.finish(dimension, labels);
        Ok(Self {
            train,
            validation,
            train_word_features,
            validation_word_features,
            encoder: first.encoder.clone(),
            template: first.template.clone(),
            data_digest: Vectors::joint_digest(sources.iter().map(|source| source.vectors)),
            labels: first.labels.clone(),
            dropped,
        })
    }

    /// The movies that were left out because they appear twice.
    #[must_use]
    pub fn dropped(&self) -> Copies {
        self.dropped
    }

    /// The movies from which gradients are computed.
    #[must_use]
    pub fn train(&self) -> &LabelledVectors {
        &self.train
    }

    /// The movies on which early stopping and thresholds are judged.
    #[must_use]
    pub fn validation(&self) -> &LabelledVectors {
        &self.validation
    }

    /// The word features of the training movies, in the same order.
    #[must_use]
    pub fn train_word_features(&self) -> &[WordFeatures] {
        &self.train_word_features
    }

    /// The word features of the validation movies, in the same order.
    #[must_use]
    pub fn validation_word_features(&self) -> &[WordFeatures] {
        &self.validation_word_features
    }

    /// The encoder of all vectors.
    #[must_use]
    pub fn encoder(&self) -> &EncoderIdentity {
        &self.encoder
    }

    /// The template that composed the encoded texts.
    #[must_use]
    pub fn template(&self) -> &InputTemplate {
        &self.template
    }

    /// The label set, in the order of the columns of the targets.
    #[must_use]
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    /// SHA-256 over vectors, targets, word features and label set of both splits. With the settings, it
    /// decides the outcome of a fit.
    #[must_use]
    pub fn content_sha256(&self) -> String {
        let mut digest = Sha256::new();
        let mut bytes = Vec::new();
        for split in [&self.train, &self.validation] {
            for matrix in [split.records(), split.targets()] {
                digest.update(format!("{:?}", matrix.shape()));
                for row in matrix.rows() {
                    bytes.clear();
                    bytes.extend(row.iter().copied().flat_map(f32::to_le_bytes));
                    digest.update(&bytes);
                }
            }
        }
        for movie in self.train_word_features.iter().chain(&self.validation_word_features) {
            digest.update(movie.to_bytes());
        }
        if !self.labels.is_built_in() {
            digest.update(format!("{:?}", self.labels));
        }
        hex::encode(digest.finalize())
    }

    /// SHA-256 over all movies of the sources.
    #[must_use]
    pub fn data_digest(&self) -> &str {
        &self.data_digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors;

    fn source(vectors: &Vectors) -> FittingSource<'_> {
        FittingSource { vectors, is_train_only: false }
    }

    /// The movies of `vectors(300)` with ids from 10,001 and other overviews.
    fn more() -> Vectors {
        let mut more = vectors(300);
        more.ids.iter_mut().for_each(|id| *id += 10_000);
        more.splits = more.ids.iter().map(|id| Split::of(*id)).collect();
        more.overviews.iter_mut().for_each(|overview| *overview += 10_000);
        more
    }

    #[test]
    fn no_test_movie_of_any_file_is_taken() {
        let (mut all, mut more) = (vectors(300), more());
        for vectors in [&mut all, &mut more] {
            for row in 0..vectors.len() {
                let value = if Split::of(vectors.ids[row]) == Split::Test { 9.0 } else { 1.0 };
                vectors.vectors.row_mut(row).fill(value);
                // Even if the file states that it is a training movie.
                vectors.splits[row] = Split::Train;
            }
        }
        let data = FittingData::join(&[source(&all), source(&more)]).unwrap();
        let of = |split| all.ids.iter().chain(&more.ids).filter(|id| Split::of(**id) == split).count();
        assert_eq!(data.train().records().dim(), (of(Split::Train), 8));
        assert_eq!(data.validation().records().dim(), (of(Split::Validation), 8));
        assert!(data.train().records().iter().chain(data.validation().records()).all(|value| *value < 2.0));
        assert_eq!(data.dropped(), Copies::default());
    }

    #[test]
    fn a_held_out_movie_of_a_train_only_source_is_validated_on_if_another_source_has_it() {
        let all = vectors(300);
        let scraped = FittingSource { vectors: &all, is_train_only: true };
        let data = FittingData::join(&[scraped, source(&all)]).unwrap();
        let expected = FittingData::of(&all).unwrap();
        assert_eq!(data.validation().records(), expected.validation().records());
        assert_eq!(data.train().records(), expected.train().records());
    }

    #[test]
    fn takes_the_training_and_validation_movies_of_a_file() {
        let all = vectors(300);
        let data = FittingData::of(&all).unwrap();
        assert_eq!(*data.train().records(), all.subset(Split::Train).vectors);
        assert_eq!(*data.validation().targets(), all.subset(Split::Validation).targets);
        assert_eq!(data.data_digest(), all.data_digest);
    }

    #[test]
    fn a_copy_of_a_test_movie_in_another_file_is_left_out() {
        let (all, mut more) = (vectors(300), more());
        let row_of = |split| more.ids.iter().position(|id| Split::of(*id) == split).unwrap();
        let (train, validation) = (row_of(Split::Train), row_of(Split::Validation));
        let test = all.ids.iter().position(|id| Split::of(*id) == Split::Test).unwrap();
        more.overviews[train] = all.overviews[test];
        let data = FittingData::join(&[source(&all), source(&more)]).unwrap();
        assert_eq!(data.dropped(), Copies { of_held_out: 1, ..Copies::default() });
        // Also if its held-out twin comes later, in the same file, or in a file only to train on.
        more.overviews[train] = more.overviews[validation];
        let train_only = FittingSource { is_train_only: true, ..source(&more) };
        let data = FittingData::join(&[source(&all), train_only]).unwrap();
        assert_eq!(data.dropped(), Copies { of_held_out: 1, ..Copies::default() });
        assert_eq!(data.validation().records().nrows(), all.subset(Split::Validation).len());
        // All movies of a file given twice are copies.
        let data = FittingData::join(&[source(&all), source(&all)]).unwrap();
        assert_eq!(data.dropped(), Copies { by_id: 300, ..Copies::default() });
    }

    #[test]
    fn the_overview_of_a_copy_of_a_test_movie_is_held_out_too() {
        let (all, mut more) = (vectors(300), more());
        let row_of = |vectors: &Vectors, split: Split| {
            vectors.ids.iter().position(|id| Split::of(*id) == split).unwrap()
        };
        let (train, copy) = (row_of(&more, Split::Train), row_of(&more, Split::Test));
        more.ids[copy] = all.ids[row_of(&all, Split::Test)];
        more.overviews[train] = more.overviews[copy];
        let data = FittingData::join(&[source(&all), source(&more)]).unwrap();
        assert_eq!(data.dropped(), Copies { by_id: 1, of_train: 0, of_held_out: 1 });
    }

    #[test]
    fn a_label_that_a_source_does_not_know_is_neither_present_nor_absent() {
        let (all, mut more) = (vectors(300), more());
        let war = all.labels.names().position(|name| name == "War").unwrap();
        let expected = more.subset(Split::Train).targets.column(war).mapv(|target| target > 0.5);
        more.set_unknown(war);
        let data = FittingData::join(&[source(&all), source(&more)]).unwrap();
        let (known, joined) = (all.subset(Split::Train).len(), data.train().targets());
        for (row, target) in joined.column(war).iter().enumerate() {
            assert_eq!(target.is_nan(), row >= known && !expected[row - known], "{row}: {target}");
        }
        let others = (0..joined.ncols()).filter(|label| *label != war);
        assert!(others.flat_map(|label| joined.column(label).to_vec()).all(|target| !target.is_nan()));
    }

    #[test]
    fn rejects_sources_of_different_encoders() {
        let mut other = more();
        other.encoder.version = "2".to_owned();
        let error = FittingData::join(&[source(&vectors(300)), source(&other)]).unwrap_err();
        assert_eq!(error, FittingDataError::Different { what: "encoder" });
    }
}
