//! An encoder in this process, for `--embedded`.

use encoder_svc::config::ENVIRONMENT_PREFIX;
use service_kit::{Metrics, Overrides, Shutdown, load_settings};
use tonic::transport::Channel;

/// Why the embedded encoder did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// A setting in an `ENCODER_SVC_…` variable is invalid.
    #[error(transparent)]
    Settings(#[from] service_kit::SettingsError),
    /// The encoder failed to start.
    #[error(transparent)]
    Start(#[from] encoder_svc::StartError),
}

/// Starts an encoder in this process with settings from its environment variables, and connects to
/// it. It stops with the process.
pub async fn channel() -> Result<Channel, EmbeddedError> {
    let settings = load_settings(ENVIRONMENT_PREFIX, None, Overrides::default())?;
    Ok(encoder_svc::embedded::channel(settings, Metrics::default(), Shutdown::new()).await?)
}
