//! Title and overview to genres over gRPC.
//!
//! A film flows one way: [`service`] checks a request, [`classifier`] composes the text, asks the encoder
//! ([`encoder_client`]) for its vector, runs the model, and applies the thresholds. [`run`] is the whole service.

pub mod classifier;
pub mod encoder_client;
mod error;
pub mod output;
mod readiness;
pub mod service;
pub mod settings;

use std::sync::Arc;

use genre_model::GenreModel;
use service_kit::{GrpcServer, Shutdown};
use tokio::net::TcpListener;
use tonic::transport::Channel;

pub use crate::classifier::Classifier;
pub use crate::encoder_client::EncoderClient;
pub use crate::error::StartError;
pub use crate::settings::{ClassifierSvcConfig, ClassifierSvcSettings};

/// Loads the model, checks that the encoder behind `encoder` is the one it was fitted on, and serves on `listener`
/// until shutdown.
///
/// An encoder that does not answer yet is waited for: the service listens, and reports that it is not ready.
pub async fn run(
    config: ClassifierSvcConfig,
    encoder: Channel,
    listener: TcpListener,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let model = GenreModel::load(&config.model)?;
    let identity = model.provenance().encoder.clone();
    tracing::info!(
        model = model.version(),
        file = %config.model.display(),
        encoder = %identity,
        thresholds = model.thresholds().rule(),
        "model loaded"
    );
    let client = EncoderClient::new(encoder, identity, config.encoder.timeout);
    let first_look = readiness::first_look(&client, &config.model).await?;

    let classifier = Arc::new(Classifier::new(Arc::new(model), client.clone()));
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, config.drain)?
        .with_service(service::ClassifierServer::new(classifier, config.limits).into_grpc());
    let health = server.health().await;
    health.set_serving(first_look).await;
    let watch = tokio::spawn(readiness::watch(client, health, first_look, shutdown.clone()));
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving");
    }
    let result = server.serve(listener, shutdown).await;
    watch.abort();
    result?;
    tracing::info!("stopped");
    Ok(())
}
