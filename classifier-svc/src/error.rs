//! Why the service cannot start.

use std::path::PathBuf;

/// Anything between the settings and the first call.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings that make no sense.
    #[error(transparent)]
    Setting(#[from] service_kit::InvalidSetting),
    /// The model file is missing or no sound model.
    #[error(transparent)]
    Model(#[from] genre_model::ModelFileError),
    /// The model's vectors come from another encoder than the one that answers.
    #[error("model file {path}: {reason}")]
    WrongEncoder {
        /// The model.
        path: PathBuf,
        /// Which encoder was expected, and which one answers.
        reason: String,
    },
    /// The gRPC server.
    #[error(transparent)]
    Serve(#[from] service_kit::ServeError),
}
