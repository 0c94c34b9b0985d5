//! Text to vector over gRPC, on ONNX Runtime.
//!
//! A text flows one way: [`service`] checks a request, [`cache`] may know its texts, [`admission`] lets in what can be
//! done in time, [`queue`] holds it in two classes, a worker of the [`session_pool`] takes the next text, [`tokenizer`]
//! makes token ids of it, [`session`] runs the graph, and the vector goes back to the caller, with others where nobody
//! notices (`answers`). [`bundle`] says which encoder all of this is. [`run`] is the whole service.

pub mod bundle;
pub mod cache;
pub mod config;
pub mod embedded;
pub mod encoder;
mod error;
pub mod grpc;
pub mod inference;
pub mod metrics;
pub mod scheduler;
pub mod tokenizer;

use std::sync::Arc;

use service_kit::{GrpcServer, Listeners, Metrics, ServeError, Shutdown, operations_routes};

pub use crate::config::{EncoderSettings, EncoderSvcConfig, EncoderSvcSettings};
pub use crate::encoder::Encoder;
pub use crate::error::StartError;

/// The gRPC server of `encoder`, for whatever it is met on.
pub fn server(
    encoder: Arc<Encoder>,
    config: &EncoderSvcConfig,
    metrics: Metrics,
) -> Result<GrpcServer, ServeError> {
    let service = grpc::EncoderServer::new(encoder, config).into_grpc();
    Ok(GrpcServer::new(proto::FILE_DESCRIPTOR_SET, config.drain, metrics)?
        .with_messages_of(config.limits.max_message_bytes())
        .with_service(service))
}

/// Loads the bundle, then serves on `listeners` until shutdown.
pub async fn run(
    config: EncoderSvcConfig,
    listeners: Listeners,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let metrics = Metrics::default();
    let encoder = Arc::new(Encoder::start(config.encoder.clone(), metrics.clone()).await?);
    let server = server(encoder, &config, metrics.clone())?.with_keys(config.keys.clone());
    let health = server.health().await;
    health.set_serving(true).await;
    if let Ok(address) = listeners.grpc.local_addr() {
        tracing::info!(%address, tls = config.tls.is_some(), keys = config.keys.is_some(), "serving");
    }
    let operations = operations_routes(health.readiness(), metrics);
    server.serve(operations, listeners, config.tls, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}
