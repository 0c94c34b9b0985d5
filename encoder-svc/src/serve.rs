//! The service: an encoder behind its gRPC server and its HTTP routes, with health and metrics beside
//! them.

use std::sync::Arc;

use ::open_inference::{OPEN_METHODS, OpenInference};
use service_kit::{
    GrpcServer, Listeners, Metrics, ServeError, Shutdown, TraceLayer, http_stack, operations_routes,
};

use crate::config::{EncoderSvcConfig, METRICS_PREFIX};
use crate::error::StartError;
use crate::grpc::EncoderServer;
use crate::limited_encoder::LimitedEncoder;
use crate::open_inference::Bundle;
use crate::{rest, startup};

/// Builds the gRPC server of `encoder`. The caller provides the listeners.
pub(crate) fn server(
    encoder: LimitedEncoder,
    config: &EncoderSvcConfig,
    metrics: Metrics,
) -> Result<GrpcServer, ServeError> {
    let limits = config.limits;
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, config.drain, metrics)?
        .with_max_message_bytes(config.largest_message_bytes())
        .with_max_connections(config.max_connections)
        .with_rules(config.connection_rules)
        .with_service(EncoderServer::new(encoder.clone()).into_grpc());
    let bundle = Bundle::new(encoder, server.readiness());
    Ok(server
        .with_service(OpenInference::new(bundle).into_grpc(limits.max_message_bytes()))
        .with_open_methods(OPEN_METHODS))
}

/// Loads the bundle, then serves on `listeners` until shutdown.
pub async fn run(
    config: EncoderSvcConfig,
    listeners: Listeners,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let metrics = Metrics::with_prefix(METRICS_PREFIX);
    let encoder = Arc::new(startup::start(config.encoder.clone(), metrics.clone()).await?);
    let encoder = LimitedEncoder::new(encoder, config.limits);
    let server = server(encoder.clone(), &config, metrics.clone())?.with_keys(config.keys.clone());
    let health = server.health().await;
    health.set_serving(true).await;
    if let Ok(address) = listeners.grpc.local_addr() {
        tracing::info!(%address, tls = config.tls.is_some(), keys = config.keys.is_some(), "serving");
    }
    let limits = rest::body_limits(&encoder, config.http_timeout, server.memory());
    let bundle = Bundle::new(encoder.clone(), health.readiness());
    let api = rest::routes(encoder, config.http_timeout, config.keys.clone(), server.memory())
        .merge(::open_inference::routes(bundle, config.keys.clone(), limits));
    let operations = operations_routes(health.readiness(), metrics.clone());
    let routes = api.layer(TraceLayer::new(config.keys)).merge(operations);
    let routes = http_stack(routes, config.allowed_hosts, &metrics);
    service_kit::serve(server, routes, config.max_http_connections, listeners, config.tls, shutdown).await;
    tracing::info!("stopped");
    Ok(())
}
