//! The service inside another process: the same handlers over an in-memory connection, without a
//! port.

use std::sync::Arc;

use service_kit::{Metrics, Shutdown};
use tonic::transport::Channel;

use crate::config::{EncoderSvcConfig, EncoderSvcSettings};
use crate::error::StartError;
use crate::limited_encoder::LimitedEncoder;
use crate::serve::server;
use crate::startup;

/// Starts an encoder and returns a channel to it. The encoder ends with the runtime or on
/// `shutdown`, and registers its metrics in `metrics`.
pub async fn channel(
    settings: EncoderSvcSettings,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<Channel, StartError> {
    let config = EncoderSvcConfig { http_listen: None, ..EncoderSvcConfig::try_from(settings)? };
    let encoder = Arc::new(startup::start(config.encoder.clone(), metrics).await?);
    let encoder = LimitedEncoder::new(encoder, config.limits);
    // The host process already counts its calls, so the metrics of this server are discarded.
    let server = server(encoder, &config, Metrics::default())?;
    server.health().await.set_serving(true).await;
    Ok(server.in_memory(shutdown))
}
