//! Title and overview to genres over gRPC and HTTP.
//!
//! A movie flows one way: [`service`] (gRPC) or [`rest`] (HTTP) takes a request, [`classifier`] checks it,
//! [`classifier`] composes the text, asks the [`encoder_pool`] for its vector, runs the model of the [`model_store`],
//! and applies the thresholds. [`run`] is the whole service.

pub mod classifier;
pub mod config;
pub mod encoder_pool;
mod error;
mod explain;
pub mod grpc;
pub mod model_store;
mod pipeline;
mod readiness;
pub mod rest;

use service_kit::{
    FileWatch, GrpcServer, Listeners, Metrics, Readiness, Shutdown, TraceLayer, catch_panics, http_metrics,
    operations_routes,
};
use tonic::transport::Channel;

pub use crate::classifier::Classifier;
pub use crate::config::{ClassifierSvcConfig, ClassifierSvcSettings};
pub use crate::encoder_pool::EncoderPool;
pub use crate::error::StartError;
pub use crate::model_store::ModelStore;
pub use crate::pipeline::Include;

/// Loads the model, checks that an encoder is there that it was fitted on, and serves on `listeners` until shutdown.
///
/// `embedded` is an encoder in this process, in place of those that `config` names; `metrics` may hold its figures already. An encoder that does not answer yet
/// is waited for: the service listens, and reports that it is not ready.
pub async fn run(
    config: ClassifierSvcConfig,
    embedded: Option<Channel>,
    metrics: Metrics,
    listeners: Listeners,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let models = ModelStore::load(config.model.clone(), &metrics)?;
    let encoders = match embedded {
        Some(channel) => EncoderPool::fixed(channel, config.encoder.clone(), &metrics),
        None => EncoderPool::discover(config.encoder.clone(), &metrics, shutdown.clone()).await,
    };
    let changes = FileWatch::new(vec![config.model.clone()], config.model_poll);
    let Service { server, classifier, readiness } =
        start(&config, models, encoders, changes, metrics.clone(), shutdown.clone()).await?;
    let operations = operations_routes(readiness, metrics.clone());

    if let Ok(grpc) = listeners.grpc.local_addr() {
        let http = listeners.http.as_ref().and_then(|listener| listener.local_addr().ok());
        let http = http.map_or_else(|| "none".to_owned(), |address| address.to_string());
        tracing::info!(%grpc, http, tls = config.tls.is_some(), keys = config.keys.is_some(), "serving");
    }
    let routes = match &config.rest {
        Some(rest) => {
            let routes = rest::routes(classifier, rest, config.keys).layer(TraceLayer).merge(operations);
            rest::with_security_headers(http_metrics(catch_panics(routes), &metrics))
        }
        None => operations,
    };
    server.serve(routes, listeners, config.tls, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

/// What answers calls.
pub struct Service {
    /// The gRPC server, for whatever it is met on.
    pub server: GrpcServer,
    /// The same for other ways in.
    pub classifier: Classifier,
    /// Whether an encoder that the model was fitted on answers.
    pub readiness: Readiness,
}

/// Looks for the encoder that `models` was fitted on, and keeps the model, the encoders and what is known of them fresh until
/// shutdown; `changes` are those of the model's file.
pub async fn start(
    config: &ClassifierSvcConfig,
    models: ModelStore,
    encoders: EncoderPool,
    changes: FileWatch,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<Service, StartError> {
    let ready = readiness::first_look(&models, &encoders, &config.model).await?;
    let classifier = Classifier::new(models.clone(), encoders.clone(), config.limits);
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, config.drain, metrics)?
        .with_keys(config.keys.clone())
        .with_messages_of(classifier.limits().max_message_bytes())
        .with_service(grpc::ClassifierServer::new(classifier.clone()).into_grpc());
    let health = server.health().await;
    health.set_serving(ready).await;
    let readiness = health.readiness();
    tokio::spawn(encoder_pool::keep_probing(encoders.clone(), shutdown.clone()));
    tokio::spawn(models.clone().follow(encoders.clone(), changes, shutdown.clone()));
    tokio::spawn(readiness::watch(models, encoders, health, ready, shutdown));
    Ok(Service { server, classifier, readiness })
}
