//! The whole service inside of another process: the same handlers over an in-memory connection, without a port.

use std::sync::Arc;

use service_kit::{Metrics, Shutdown};
use tonic::transport::Channel;

use crate::{Encoder, EncoderSvcConfig, EncoderSvcSettings, StartError};

/// Starts an encoder and gives a channel to it. It ends with the runtime, or on `shutdown`; its stages are measured in
/// `metrics`.
pub async fn channel(
    settings: EncoderSvcSettings,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<Channel, StartError> {
    let config = EncoderSvcConfig::try_from(settings)?;
    let encoder = Arc::new(Encoder::start(config.encoder.clone(), metrics).await?);
    // Calls are those of the process around it.
    let server = crate::server(encoder, &config, Metrics::default())?;
    server.health().await.set_serving(true).await;
    Ok(server.in_memory(shutdown))
}
