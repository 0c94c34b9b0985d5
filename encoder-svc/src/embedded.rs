//! The whole service inside of another process: the same handlers over an in-memory connection, without a port.

use std::sync::Arc;

use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use service_kit::{Metrics, Shutdown};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::{Encoder, EncoderSvcConfig, EncoderSvcSettings, StartError};

/// What an in-memory connection holds on its way.
const BUFFER_BYTES: usize = 1 << 20;

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

    let (connections, incoming) = mpsc::unbounded_channel::<DuplexStream>();
    let incoming = UnboundedReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
    tokio::spawn(async move {
        if let Err(error) = server.serve_incoming(incoming, shutdown).await {
            tracing::error!(%error, "the embedded encoder ended");
        }
    });
    // The address is never looked up: the connector makes the connection.
    let endpoint = Endpoint::from_static("http://embedded");
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (client, server) = tokio::io::duplex(BUFFER_BYTES);
        let connected = connections.send(server);
        async move {
            connected.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
            Ok::<_, std::io::Error>(TokioIo::new(client))
        }
    })))
}
