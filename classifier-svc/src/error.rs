//! Why the service cannot start.

use std::path::PathBuf;

/// Anything between the settings and the first call.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings that make no sense.
    #[error(transparent)]
    Setting(#[from] service_kit::InvalidSetting),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] service_kit::TlsError),
    /// The encoder's key is not in the file that was named.
    #[error("setting encoder.api_key_file: {path}: {source}")]
    ApiKeyFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
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
    /// A server or its listener.
    #[error(transparent)]
    Serve(#[from] service_kit::ServeError),
}
