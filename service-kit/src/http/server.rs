//! The HTTP server around a service's routes: probes, metrics, timeouts and shutdown.

use std::time::Duration;

use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::StreamExt as _;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tonic::transport::server::Connected as _;
use tower_http::catch_panic::CatchPanicLayer;

use crate::net::incoming::{Incoming, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use crate::telemetry::metrics::METRICS_CONTENT_TYPE;
use crate::{ApiError, Metrics, Readiness, Shutdown};

/// The timeout for the headers of an HTTP/1 request, and for the next request on an idle
/// connection.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of an HTTP listener that serves only probes and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// The address to listen on; empty for no HTTP listener.
    pub listen: String,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9464".to_owned() }
    }
}

/// Returns the routes `/livez` (200 while the process runs), `/readyz` (200 if ready for calls,
/// else 503) and `/metrics`.
pub fn operations_routes(readiness: Readiness, metrics: Metrics) -> Router {
    let no_store = || [(CACHE_CONTROL, "no-store")];
    let ready = move || async move {
        let (status, text) = if readiness.get() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        };
        (status, no_store(), text).into_response()
    };
    Router::new()
        .route("/livez", get(move || async move { (no_store(), "alive\n") }))
        .route("/readyz", get(ready))
        .route(
            "/metrics",
            get(move || async move { ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], metrics.render()) }),
        )
}

/// Answers 500 when a handler panics, so that a panic costs only its own request. The panic hook
/// logs the cause.
pub fn catch_panics(routes: Router) -> Router {
    routes.layer(CatchPanicLayer::custom(|_| ApiError::defect().to_http()))
}

/// Serves `routes` until shutdown. Then accepts no new connections and lets requests in flight run
/// for up to `drain`.
///
/// `axum::serve` does not fit: it configures no timer, so hyper's timeouts never fire.
pub(crate) async fn serve_http(routes: Router, mut incoming: Incoming, drain: Duration, shutdown: Shutdown) {
    let http = http_server();
    let connections = GracefulShutdown::new();
    while let Some(Some(Ok(connection))) = shutdown.run_until_cancelled(incoming.next()).await {
        let service = routes.clone().layer(Extension(connection.connect_info()));
        let service = TowerToHyperService::new(service);
        let exchange = http.serve_connection(TokioIo::new(connection), service).into_owned();
        let exchange = connections.watch(exchange);
        tokio::spawn(async move {
            if let Err(error) = exchange.await {
                tracing::debug!(error, "HTTP connection failed");
            }
        });
    }
    drop(incoming);
    if tokio::time::timeout(drain, connections.shutdown()).await.is_err() {
        tracing::warn!(seconds = drain.as_secs_f64(), "requests were still in flight after the drain time");
    }
}

/// Returns a server of HTTP/1 and HTTP/2 with timeouts.
fn http_server() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEPALIVE_INTERVAL))
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    http
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn answers_a_panic_with_a_problem() {
        async fn panics() -> &'static str {
            panic!("on purpose")
        }
        let routes = catch_panics(Router::new().route("/", get(panics)));
        let response =
            routes.oneshot(http::Request::get("/").body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], crate::PROBLEM_CONTENT_TYPE);
    }
}
