//! The HTTP server around routes: what orchestrators ask for, and shutdown.

use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::get;
use futures_util::StreamExt as _;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tower_http::catch_panic::CatchPanicLayer;

use crate::net::incoming::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use crate::telemetry::metrics::METRICS_CONTENT_TYPE;
use crate::{ApiError, Incoming, Metrics, Readiness, Shutdown};

/// How long the headers of a request of HTTP/1 may take, and how long a connection may wait for its next request.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);

/// The HTTP listener of a service that has one for orchestrators and metrics only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Address; empty for no such listener.
    pub listen: String,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9464".to_owned() }
    }
}

/// `/livez`: the process answers. `/readyz`: it is ready for calls, else 503. `/metrics`.
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

/// Routes whose panics are answered.
pub fn catch_panics(routes: Router) -> Router {
    routes.layer(CatchPanicLayer::custom(|_| ApiError::defect().to_http()))
}

/// Serves `routes` until shutdown; then nothing new is accepted, and requests in flight get `drain`.
///
/// In the place of `axum::serve`, which gives hyper no clock, so that none of its time limits holds.
pub async fn serve_http(routes: Router, mut incoming: Incoming, drain: Duration, shutdown: Shutdown) {
    let http = either_version();
    let connections = GracefulShutdown::new();
    while let Some(Some(Ok(connection))) = shutdown.run_until_cancelled(incoming.next()).await {
        let service = TowerToHyperService::new(routes.clone());
        let exchange = http.serve_connection(TokioIo::new(connection), service).into_owned();
        let exchange = connections.watch(exchange);
        tokio::spawn(async move {
            if let Err(error) = exchange.await {
                tracing::debug!(error, "an HTTP connection failed");
            }
        });
    }
    drop(incoming);
    if tokio::time::timeout(drain, connections.shutdown()).await.is_err() {
        tracing::warn!(seconds = drain.as_secs_f64(), "requests were still in flight after the drain time");
    }
}

/// Either version of HTTP, with the times that its clients have.
fn either_version() -> auto::Builder<TokioExecutor> {
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
    async fn over_http_it_is_a_problem_of_ours() {
        async fn defect() -> &'static str {
            panic!("a defect, as this test wants it")
        }
        let routes = catch_panics(Router::new().route("/", get(defect)));
        let answer =
            routes.oneshot(http::Request::get("/").body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.headers()["content-type"], crate::PROBLEM_CONTENT_TYPE);
    }
}
