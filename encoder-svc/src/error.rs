//! Errors that stop the service from starting.

use std::path::PathBuf;

use crate::bundle::BundleError;
use crate::inference::device::Device;
use crate::inference::onnx_runtime::RuntimeError;
use crate::inference::shared_weights::WeightsError;

/// A failure between reading the settings and serving the first call.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting has an invalid value.
    #[error(transparent)]
    Setting(#[from] service_kit::InvalidSetting),
    /// A certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] service_kit::TlsError),
    /// The bundle is missing or damaged.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// ONNX Runtime's library cannot be loaded.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// ONNX Runtime rejects the graph.
    #[error("{path}: {source}")]
    Session {
        /// The file of the graph.
        path: PathBuf,
        /// The error of ONNX Runtime.
        source: ort::Error,
    },
    /// ONNX Runtime cannot run the graph on the configured device.
    #[error(
        "encoder.device is \"{device}\", which this ONNX Runtime cannot use: {source} (encoder.runtime_library names the library)"
    )]
    Device {
        /// The configured device.
        device: Device,
        /// The error of ONNX Runtime.
        source: ort::Error,
    },
    /// The weights of the graph cannot be read.
    #[error("{path}: {source}")]
    Weights {
        /// The file of the graph.
        path: PathBuf,
        /// What is wrong with it.
        source: WeightsError,
    },
    /// The vectors of the reference texts differ from the reference vectors.
    #[error("{path}: self-check failed: {reason}")]
    SelfCheck {
        /// The bundle.
        path: PathBuf,
        /// The text that failed, what was expected and what was found.
        reason: String,
    },
    /// The system could not start a thread or bind a listener.
    #[error("start: {0}")]
    System(#[from] std::io::Error),
    /// The server could not be started.
    #[error(transparent)]
    Serve(#[from] service_kit::ServeError),
}
