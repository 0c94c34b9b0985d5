//! The batch job: turns movies into vectors, vectors into a genre model, and measures the model.
//!
//! Data flows one way, and folders depend on each other only in this order:
//!
//! - [`data`] reads movies ([`MovieReader`]) and keeps them, their vectors and their split in
//!   tables;
//! - [`encode`] turns movies into [`Vectors`] through an encoder service;
//! - [`fit`] turns the training and validation movies among them ([`FittingData`]) into a model by
//!   a [preset](fit::preset);
//! - [`search`] tries random settings; [`evaluate`] measures models and writes the report;
//! - [`classify`] classifies tables with a fitted model, in chunks and shards as `encode` does;
//! - `cli`, in the binary, combines them.
//!
//! [`checkpoint`], [`chunks`], [`metrics`], [`progress`](Progress) and [`store`] are shared by several
//! folders and depend on none.
//!
//! Deliberately absent: code that turns text into vectors (the encoder service does it), a second
//! forward pass for prediction (`genre-model` has it), and any way from a test movie to a fit.

pub mod checkpoint;
pub mod chunks;
pub mod classify;
pub mod data;
pub mod encode;
pub mod evaluate;
mod file_error;
pub mod fit;
pub mod metrics;
pub mod output_guard;
mod progress;
pub mod search;
pub mod store;
mod svg;
#[cfg(test)]
mod testing;

pub use data::ingest::reader::{IngestError, IngestOptions, MovieReader};
pub use data::ingest::report::{DropReason, Dropped, DroppedRow, IngestReport, LabelCount};
pub use data::movie::{DataDigest, Movie};
pub use data::split::{Split, SplitChoice};
pub use data::training_data::{Copies, FittingData, FittingDataError, FittingSource};
pub use data::vectors::Vectors;
pub use encode::batches::Load;
pub use file_error::FileError;
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
