//! An encoder in this process, for `--embedded`.

use encoder_svc::config::ENVIRONMENT_PREFIX;
use service_kit::{Metrics, Overrides, Shutdown, load_settings};
use tonic::transport::Channel;

/// Why there is no encoder in this process.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The variables `ENCODER_SVC_…` hold settings that are none.
    #[error(transparent)]
    Settings(#[from] service_kit::SettingsError),
    /// The encoder does not start.
    #[error(transparent)]
    Start(#[from] encoder_svc::StartError),
}

/// Starts an encoder in this process, by its own settings, and connects to it. It ends with the process.
pub async fn channel() -> Result<Channel, EmbeddedError> {
    let settings = load_settings(ENVIRONMENT_PREFIX, None, Overrides::default())?;
    Ok(encoder_svc::embedded::channel(settings, Metrics::default(), Shutdown::new()).await?)
}
