//! The model that the trainer writes and the classifier reads.
//!
//! A [`GenreModel`] is one `.safetensors` file: a network with one hidden layer ([`Mlp`]), what
//! a film's words add to it ([`WordWeights`]), the [`Thresholds`] that
//! turn its probabilities into genres, the [`InputTemplate`] that turns a film into the text to encode, and where
//! all of it came from ([`Provenance`]). It knows neither of the services.

mod atomic_file;
mod encoder_identity;
mod genre;
mod input_template;
mod integrity;
mod mlp;
mod model_file;
mod thresholds;
mod words;

pub use atomic_file::write_atomically;
pub use encoder_identity::{EncoderIdentity, Fingerprint, InvalidFingerprint};
pub use genre::{GENRES, Genre, GenreSet};
pub use input_template::{InputTemplate, InvalidTemplate};
pub use mlp::{Activation, Dense, InvalidMlp, Mlp, sigmoid};
pub use model_file::{GenreModel, ModelFileError, Provenance};
pub use thresholds::{InvalidThresholds, Thresholds};
pub use words::{FilmWords, InvalidWordWeights, WordWeights};

/// Name of the one split rule, as it stands in model files and reports.
pub const SPLIT_RULE: &str = "xxh3_64(decimal movie id as ASCII) % 100: <72 train, <82 validation, else test";
