//! The batch job: movies to vectors, vectors to a fitted genre model, and its figures.
//!
//! Data flows one way:
//!
//! - [`KaggleReader`] reads movies, [`movies_file`] keeps them;
//! - [`encode_job`] has them encoded through [`encoder_client`], resumably, into a [`vectors_file`];
//! - [`FittingData`] takes training and validation movies out of those [`Vectors`], and nothing else;
//! - [`fit_job`] makes a model of them by a [`recipe`]: [`estimator`] fits networks, [`ensemble`] averages them,
//!   [`calibration`] makes their probabilities honest, [`thresholds`] turns those into genres;
//! - [`evaluation`] and [`report`] measure it with [`metrics`].
//!
//! What is deliberately absent: no text arithmetic (the encoder service does it), no second copy of the network's
//! forward pass for prediction (the model file's is the classifier's), and no way from test movies to a fit.

pub mod checkpoint;
pub mod data;
pub mod encode;
pub mod evaluate;
pub mod fit;
pub mod metrics;
mod progress;
pub mod search;
#[cfg(test)]
mod testing;

pub use data::ingest::kaggle::{KaggleError, KaggleReader};
pub use data::ingest::report::{DropReason, Dropped, DroppedRow, IngestReport, LabelCount};
pub use data::movie::{DataDigest, Movie};
pub use data::split::{Split, SplitChoice};
pub use data::training_data::{FittingData, FittingDataError};
pub use data::vectors::Vectors;
pub use encode::batches::Load;
pub use fit::hyper_parameters::InvalidParam;
pub use fit::mlp::params::MlpParams;
pub use progress::Progress;

/// Writes the name that a value has on the command line.
pub(crate) fn write_value_name(
    value: &impl clap::ValueEnum,
    f: &mut std::fmt::Formatter<'_>,
) -> std::fmt::Result {
    value.to_possible_value().map_or(Ok(()), |name| f.write_str(name.get_name()))
}
