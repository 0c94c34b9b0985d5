//! Predicts a movie's genres from its title and overview, over gRPC and HTTP.
//!
//! A movie flows one way:
//!
//! 1. [`grpc`], `open_inference` or [`rest`] receives the request. [`call`] says whose it is.
//! 2. [`classifier`] checks it against the limits. Both transports and the command line call it, so
//!    they accept the same requests.
//! 3. `pipeline` composes the text, gets its vector from an encoder, scores it with the model of
//!    the [`model_store`] and applies the thresholds or the request's own [`selection`]. `explain`
//!    lists the variants of a movie that an explanation scores.
//!
//! `readiness` watches whether a matching encoder answers. [`run`] is the whole service.

pub mod call;
pub mod classifier;
mod columns;
pub mod config;
mod error;
pub mod explain;
pub mod grpc;
pub mod model_file;
pub mod model_store;
mod open_inference;
mod pipeline;
mod readiness;
pub mod rest;
pub mod selection;

use ::open_inference::{OPEN_METHODS, OpenInference};
use encoder_client::EncoderClient;
use service_kit::{
    DEFAULT_MAX_HTTP_CONNECTIONS, GrpcServer, Listeners, Metrics, Readiness, Shutdown, TraceLayer,
    http_stack, operations_routes, serve,
};
use tonic::transport::Channel;

pub use crate::call::Call;
pub use crate::classifier::Classifier;
pub use crate::config::{ClassifierSvcConfig, ClassifierSvcSettings, DiscoverySetting};
pub use crate::error::StartError;
pub use crate::model_file::{ModelFile, ModelSource};
pub use crate::model_store::ModelStore;
use crate::open_inference::Genres;
pub use crate::pipeline::Include;
pub use crate::selection::Selection;

/// Loads the model, connects to an encoder that matches it, and serves on `listeners` until
/// shutdown.
///
/// `embedded` is an encoder in this process; with it, the encoder addresses in `config` are
/// ignored. `metrics` may already hold metrics of that encoder. While no encoder answers, the
/// service listens but reports that it is not ready.
///
/// # Errors
///
/// Fails if the model file is invalid, if the encoder that answers is not the one the model was
/// fitted on, or if a listener cannot be served.
pub async fn run(
    config: ClassifierSvcConfig,
    embedded: Option<Channel>,
    metrics: Metrics,
    listeners: Listeners,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let models = ModelStore::load(config.model.clone(), &metrics)?;
    let encoders = match embedded {
        Some(channel) => EncoderClient::fixed(channel, &config.encoder, &metrics),
        None => EncoderClient::discover(config.encoder.clone(), &metrics, shutdown.clone()).await,
    };
    let source = ModelFile::watch(config.model.clone(), config.model_poll);
    let Service { mut server, classifier, readiness } =
        start(&config, models, encoders, source, metrics.clone(), shutdown.clone()).await?;
    let operations = operations_routes(readiness.clone(), metrics.clone());

    if let Ok(grpc) = listeners.grpc.local_addr() {
        let http = listeners.http.as_ref().and_then(|listener| listener.local_addr().ok());
        let http = http.map_or_else(|| "none".to_owned(), |address| address.to_string());
        tracing::info!(%grpc, http, tls = config.tls.is_some(), keys = config.keys.is_some(), "serving");
    }
    let routes = match &config.rest {
        Some(rest) => {
            let trace = TraceLayer::new(config.keys.clone());
            let memory = server.memory();
            let api = rest::routes_with_open_inference(classifier, readiness, rest, config.keys, memory);
            let mut routes = api.layer(trace).merge(operations);
            if rest.grpc_web {
                let web = server.web_routes(rest.timeout);
                routes = routes.merge(web.layer(rest::grpc_web_cors(&rest.cors_origins)));
            }
            rest::with_security_headers(http_stack(routes, rest.allowed_hosts.clone(), &metrics))
        }
        None => operations,
    };
    let max_http_connections = config.rest.map_or(DEFAULT_MAX_HTTP_CONNECTIONS, |rest| rest.max_connections);
    serve(server, routes, max_http_connections, listeners, config.tls, shutdown).await;
    tracing::info!("stopped");
    Ok(())
}

/// The parts of a started service.
pub struct Service {
    /// The gRPC server, not yet bound to a listener.
    pub server: GrpcServer,
    /// The classifier behind the gRPC server, for other transports.
    pub classifier: Classifier,
    /// Whether an encoder that matches the model answers.
    pub readiness: Readiness,
}

/// Checks the encoder and starts the background tasks: probing encoders, loading new models from
/// `source`, and reporting readiness. They run until shutdown.
pub async fn start(
    config: &ClassifierSvcConfig,
    models: ModelStore,
    encoders: EncoderClient,
    source: impl ModelSource,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<Service, StartError> {
    let ready = readiness::check_at_start(&models, &encoders, &config.model).await?;
    let classifier = Classifier::new(models.clone(), encoders.clone(), config.limits);
    // JSON takes more bytes than Protobuf.
    let max_message_bytes = match &config.rest {
        Some(_) => classifier.limits().max_json_bytes(),
        None => classifier.limits().max_message_bytes(),
    };
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, config.drain, metrics)?
        .with_keys(config.keys.clone())
        .with_max_message_bytes(max_message_bytes)
        .with_max_connections(config.max_connections)
        .with_rules(config.connection_rules)
        .with_service(grpc::ClassifierServer::new(classifier.clone()).into_grpc());
    let genres = Genres::new(classifier.clone(), server.readiness());
    let server = server
        .with_service(OpenInference::new(genres).into_grpc(classifier.limits().max_message_bytes()))
        .with_open_methods(OPEN_METHODS);
    let health = server.health().await;
    health.set_serving(ready).await;
    let readiness = health.readiness();
    tokio::spawn(encoders.clone().keep_probing(shutdown.clone()));
    tokio::spawn(models.clone().follow(encoders.clone(), source, shutdown.clone()));
    tokio::spawn(readiness::watch(models, encoders, health, ready, shutdown));
    Ok(Service { server, classifier, readiness })
}
