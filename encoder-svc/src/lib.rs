//! Text to vector over gRPC, on ONNX Runtime.
//!
//! A text flows one way: [`service`] checks a request, [`queue`] holds its texts in two classes, a worker of the
//! [`session_pool`] takes the next one, [`tokenizer`] makes token ids of it, [`session`] runs the graph, and the
//! vector goes back to the caller. [`bundle`] says which encoder all of this is. [`run`] is the whole service.

pub mod bundle;
pub mod embedded;
pub mod encoder;
mod error;
pub mod queue;
pub mod runtime;
mod self_check;
pub mod service;
pub mod session;
pub mod session_pool;
pub mod settings;
pub mod tokenizer;

use std::sync::Arc;

use service_kit::{GrpcServer, Shutdown};
use tokio::net::TcpListener;

pub use crate::encoder::Encoder;
pub use crate::error::StartError;
pub use crate::settings::{EncoderSettings, EncoderSvcConfig, EncoderSvcSettings};

/// Loads the bundle, then serves on `listener` until shutdown.
pub async fn run(
    config: EncoderSvcConfig,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let encoder = Arc::new(Encoder::start(config.encoder.clone()).await?);
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, config.drain)?
        .with_service(service::EncoderServer::new(encoder, &config).into_grpc());
    let health = server.health().await;
    health.set_serving(true).await;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving");
    }
    server.serve(listener, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}
