//! The model that the trainer writes and the classifier reads.
//!
//! A [`GenreModel`] is one `.safetensors` file. It holds a network with one hidden layer ([`Mlp`]),
//! weights of a movie's word features ([`WordWeights`]), the [`Thresholds`] that turn probabilities
//! into genres, the [`InputTemplate`] that turns a movie into the text to encode, and its
//! [`Provenance`]. This crate knows neither of the services.

mod canonical;
mod encoder_identity;
mod file;
mod input_template;
mod labels;
mod mlp;
mod model;
mod provenance;
mod thresholds;
mod word_features;

pub use canonical::nfc;
pub use encoder_identity::{EncoderIdentity, Fingerprint, InvalidFingerprint};
pub use file::atomic::write_atomically;
pub use input_template::{InputTemplate, InvalidTemplate};
pub use labels::{
    GENRES, Genre, InvalidLabelSet, Label, LabelSet, MAX_LABELS, MovieLabels, UnknownLabel, label_key,
};
pub use mlp::{Activation, Dense, InvalidMlp, Mlp, sigmoid};
pub use model::{GenreModel, ModelFileError};
pub use provenance::Provenance;
pub use thresholds::{InvalidThresholds, Thresholds};
pub use word_features::{InvalidWordWeights, WordFeatures, WordWeights};

/// The rule that assigns movies to splits, as written in model files and reports.
pub const SPLIT_RULE: &str = "xxh3_64(decimal movie id as ASCII) % 100: <72 train, <82 validation, else test";
