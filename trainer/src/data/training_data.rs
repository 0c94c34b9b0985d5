//! The movies that a fit may see: training and validation, never test.

use genre_model::{EncoderIdentity, InputTemplate, LabelSet, WordFeatures};
use linfa::dataset::Dataset;
use ndarray::Ix2;
use sha2::{Digest as _, Sha256};

use crate::{Split, Vectors};

/// Vectors of shape `[rows, dimension]` and targets of 0 and 1 of shape `[rows, labels]`.
pub type LabelledVectors = Dataset<f32, f32, Ix2>;

/// Training and validation movies of one encoder and one source. No constructor admits a test
/// movie.
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
}

/// Why movies may not be used in a fit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FittingDataError {
    /// A movie belongs to another split.
    #[error("movie {id}: expected {expected} movies only, found a {found} movie")]
    WrongSplit {
        /// The movie.
        id: u64,
        /// The split it was given for.
        expected: Split,
        /// The split it belongs to.
        found: Split,
    },
    /// A split has no movies.
    #[error("expected {expected} movies, found none")]
    Empty {
        /// The split.
        expected: Split,
    },
    /// The splits do not belong together.
    #[error(
        "expected training and validation vectors of one encoder, template, label set and source, found different {what}s"
    )]
    Different {
        /// What differs.
        what: &'static str,
    },
}

impl FittingData {
    /// Takes the training and validation movies out of `vectors` and leaves its test movies behind.
    pub fn of(vectors: &Vectors) -> Result<Self, FittingDataError> {
        Self::new(vectors.subset(Split::Train), vectors.subset(Split::Validation))
    }

    /// Checks the split of every movie by its id, whatever the file states.
    pub fn new(train: Vectors, validation: Vectors) -> Result<Self, FittingDataError> {
        check(&train, Split::Train)?;
        check(&validation, Split::Validation)?;
        for (what, is_same) in [
            ("encoder", train.encoder == validation.encoder),
            ("template", train.template == validation.template),
            ("label set", train.labels == validation.labels),
            ("source", train.data_digest == validation.data_digest),
        ] {
            if !is_same {
                return Err(FittingDataError::Different { what });
            }
        }
        Ok(Self {
            train: Dataset::new(train.vectors, train.targets),
            validation: Dataset::new(validation.vectors, validation.targets),
            train_word_features: train.word_features,
            validation_word_features: validation.word_features,
            encoder: train.encoder,
            template: train.template,
            data_digest: train.data_digest,
            labels: train.labels,
        })
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

    /// SHA-256 over all movies of the source.
    #[must_use]
    pub fn data_digest(&self) -> &str {
        &self.data_digest
    }
}

fn check(vectors: &Vectors, expected: Split) -> Result<(), FittingDataError> {
    if vectors.is_empty() {
        return Err(FittingDataError::Empty { expected });
    }
    match vectors.ids.iter().find(|id| Split::of(**id) != expected) {
        Some(&id) => Err(FittingDataError::WrongSplit { id, expected, found: Split::of(id) }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors;

    #[test]
    fn rejects_a_test_movie_among_the_training_movies() {
        let all = vectors(300);
        let mut train = all.subset(Split::Train);
        let leak = all.subset(Split::Test).ids[0];
        // Even if the file states that it is a training movie.
        train.ids[3] = leak;
        let error = FittingData::new(train, all.subset(Split::Validation)).unwrap_err();
        let expected = FittingDataError::WrongSplit { id: leak, expected: Split::Train, found: Split::Test };
        assert_eq!(error, expected);
        assert!(
            error
                .to_string()
                .contains(&format!("movie {leak}: expected train movies only, found a test movie"))
        );
        let swapped = FittingData::new(all.subset(Split::Train), all.subset(Split::Test));
        assert!(matches!(swapped, Err(FittingDataError::WrongSplit { .. })));
    }

    #[test]
    fn takes_the_training_and_validation_movies_of_a_file() {
        let all = vectors(300);
        let data = FittingData::of(&all).unwrap();
        assert_eq!(*data.train().records(), all.subset(Split::Train).vectors);
        assert_eq!(*data.validation().targets(), all.subset(Split::Validation).targets);
    }

    #[test]
    fn rejects_splits_of_different_encoders() {
        let all = vectors(300);
        let mut validation = all.subset(Split::Validation);
        validation.encoder.version = "2".to_owned();
        let error = FittingData::new(all.subset(Split::Train), validation).unwrap_err();
        assert_eq!(error, FittingDataError::Different { what: "encoder" });
    }
}
