//! Errors of starting the service.

use std::path::PathBuf;

/// A failure between reading the settings and serving the first call.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting has an invalid value.
    #[error(transparent)]
    Setting(#[from] service_kit::InvalidSetting),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] service_kit::TlsError),
    /// The settings of the connection to encoders are invalid.
    #[error(transparent)]
    Encoder(#[from] encoder_client::ConnectionError),
    /// The model file is missing or invalid.
    #[error(transparent)]
    Model(#[from] genre_model::ModelFileError),
    /// The encoder that answers is not the one the model was fitted on, or makes vectors of another
    /// dimension.
    #[error("model file {path}: {reason}")]
    WrongEncoder {
        /// The model file.
        path: PathBuf,
        /// The expected encoder and the one found.
        reason: String,
    },
    /// A server or listener failed.
    #[error(transparent)]
    Serve(#[from] service_kit::ServeError),
}
