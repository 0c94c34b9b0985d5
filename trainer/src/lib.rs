//! The batch job: films to vectors, vectors to a fitted genre model, and its figures.
//!
//! Data flows one way:
//!
//! - [`KaggleReader`] reads films, [`movies_file`] keeps them;
//! - [`encode_job`] has them encoded through [`encoder_client`], resumably, into a [`vectors_file`];
//! - [`FittingData`] takes training and validation films out of those [`Vectors`], and nothing else;
//! - [`fit_job`] makes a model of them by a [`recipe`]: [`estimator`] fits networks, [`ensemble`] averages them,
//!   [`calibration`] makes their probabilities honest, [`thresholds`] turns those into genres;
//! - [`evaluation`] and [`report`] measure it with [`metrics`].
//!
//! What is deliberately absent: no text arithmetic (the encoder service does it), no second copy of the network's
//! forward pass for prediction (the model file's is the classifier's), and no way from test films to a fit.

mod adam;
mod backpropagation;
pub mod baselines;
mod blend;
mod bulk;
pub mod calibration;
mod checked_pages;
mod early_stopping;
pub mod embedded;
pub mod encode_job;
pub mod encoder_client;
pub mod ensemble;
pub mod estimator;
pub mod evaluation;
mod film_columns;
pub mod fit_job;
mod fitting_data;
mod genres_literal;
mod ingest_report;
pub mod input;
mod kaggle;
pub mod layout;
pub mod loss_curves;
pub mod metrics;
mod mlp_params;
mod movie;
pub mod movie_source;
pub mod movies_file;
mod network;
mod parallel;
mod parts;
pub mod plots;
pub mod prepare;
mod progress;
mod quote_watch;
pub mod recipe;
mod replicas;
pub mod report;
pub mod retry;
pub mod search;
pub mod shard;
pub mod shard_folder;
mod split;
mod standardiser;
pub mod table_file;
#[cfg(test)]
mod testing;
pub mod thresholds;
mod vectorised;
mod vectors;
pub mod vectors_file;
mod word_fit;

pub use bulk::Load;
pub use fitting_data::{FittingData, FittingDataError};
pub use ingest_report::{DropReason, Dropped, DroppedRow, IngestReport, LabelCount};
pub use kaggle::{KaggleError, KaggleReader};
pub use mlp_params::{InvalidParam, MlpParams, MlpValidParams};
pub use movie::{DataDigest, Movie};
pub use progress::Progress;
pub use split::Split;
pub use vectors::Vectors;
