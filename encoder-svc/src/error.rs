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
    /// The bundle is missing, damaged, or none.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::BundleError),
    /// ONNX Runtime's library cannot be loaded.
    #[error(transparent)]
    Runtime(#[from] crate::inference::onnx_runtime::RuntimeError),
    /// ONNX Runtime refuses the graph, or a text.
    #[error("{path}: {source}")]
    Session {
        /// The graph.
        path: PathBuf,
        /// What the runtime said.
        source: ort::Error,
    },
    /// ONNX Runtime cannot run the graph on the device of the settings.
    #[error(
        "encoder.device is \"{device}\", which this ONNX Runtime cannot use: {source} (encoder.runtime_library names the library)"
    )]
    Device {
        /// The device.
        device: crate::inference::device::Device,
        /// What the runtime said.
        source: ort::Error,
    },
    /// The graph's weights cannot be read.
    #[error("{path}: {source}")]
    Weights {
        /// The graph.
        path: PathBuf,
        /// Why.
        source: crate::inference::shared_weights::WeightsError,
    },
    /// The reference texts do not give the reference vectors.
    #[error("{path}: self-check failed: {reason}")]
    SelfCheck {
        /// The bundle.
        path: PathBuf,
        /// Which text, what was expected and what was found.
        reason: String,
    },
    /// A thread could not be started, or signals could not be listened for.
    #[error("start: {0}")]
    System(#[from] std::io::Error),
    /// A server or its listener.
    #[error(transparent)]
    Serve(#[from] service_kit::ServeError),
}
