//! The model that the trainer writes and the classifier reads.
//!
//! A [`GenreModel`] is one `.safetensors` file: a network with one hidden layer ([`Mlp`]), what
//! a movie's words add to it ([`WordWeights`]), the [`Thresholds`] that
//! turn its probabilities into genres, the [`InputTemplate`] that turns a movie into the text to encode, and where
//! all of it came from ([`Provenance`]). It knows neither of the services.

mod encoder_identity;
mod file;
mod input_template;
mod labels;
mod mlp;
mod thresholds;
mod word_features;

pub use encoder_identity::{EncoderIdentity, Fingerprint, InvalidFingerprint};
pub use file::atomic::write_atomically;
pub use file::format::{GenreModel, ModelFileError, Provenance};
pub use input_template::{InputTemplate, InvalidTemplate};
pub use labels::{GENRES, Genre, GenreSet};
pub use mlp::{Activation, Dense, InvalidMlp, Mlp, sigmoid};
pub use thresholds::{InvalidThresholds, Thresholds};
pub use word_features::{InvalidWordWeights, WordFeatures, WordWeights};

/// Name of the one split rule, as it stands in model files and reports.
pub const SPLIT_RULE: &str = "xxh3_64(decimal movie id as ASCII) % 100: <72 train, <82 validation, else test";
