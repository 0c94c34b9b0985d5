//! The service: an encoder behind its gRPC server and its HTTP routes, with health and metrics beside
//! them.

use std::sync::Arc;

use service_kit::{
    GrpcServer, Listeners, Metrics, ServeError, Shutdown, TraceLayer, http_stack, operations_routes,
};

use crate::config::{EncoderSvcConfig, METRICS_PREFIX};
use crate::error::StartError;
use crate::grpc::EncoderServer;
use crate::limited_encoder::LimitedEncoder;
use crate::{rest, startup};

/// Builds the gRPC server of `encoder`. The caller provides the listeners.
pub(crate) fn server(
    encoder: LimitedEncoder,
    config: &EncoderSvcConfig,
    metrics: Metrics,
) -> Result<GrpcServer, ServeError> {
    let service = EncoderServer::new(encoder).into_grpc();
    Ok(GrpcServer::new(proto::FILE_DESCRIPTOR_SET, config.drain, metrics)?
        .with_max_message_bytes(config.limits.max_message_bytes())
        .with_max_connections(config.max_connections)
        .with_rules(config.connection_rules)
        .with_service(service))
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
    let api = rest::routes(encoder, config.http_timeout, config.keys.clone(), server.memory());
    let operations = operations_routes(health.readiness(), metrics.clone());
    let routes = api.layer(TraceLayer::new(config.keys)).merge(operations);
    let routes = http_stack(routes, config.allowed_hosts, &metrics);
    service_kit::serve(server, routes, config.max_http_connections, listeners, config.tls, shutdown).await;
    tracing::info!("stopped");
    Ok(())
}
