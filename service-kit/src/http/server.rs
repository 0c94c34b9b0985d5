//! The routes of every service: probes and metrics.

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::get;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::telemetry::exposition::Exposition;
use crate::{Metrics, Readiness};

/// The most connections of an HTTP listener if nothing else is set.
pub const DEFAULT_MAX_HTTP_CONNECTIONS: usize = 1024;

/// Settings of an HTTP listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// The address to listen on; empty for no HTTP listener.
    pub listen: String,
    /// The most open connections; over it, the one that is idle longest is closed.
    pub max_connections: usize,
    /// Seconds that a whole request may take.
    pub timeout_seconds: f64,
    /// The host names under which the listener answers, besides IP addresses; `*` for all. If empty,
    /// a listener on a loopback address without API keys answers as `localhost` only, others under
    /// any.
    pub allowed_hosts: Vec<String>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".to_owned(),
            max_connections: DEFAULT_MAX_HTTP_CONNECTIONS,
            timeout_seconds: 30.0,
            allowed_hosts: Vec::new(),
        }
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
    let metrics_in_accepted_format = move |headers: HeaderMap| async move {
        let exposition = Exposition::of(&headers);
        let headers = [(CONTENT_TYPE, exposition.content_type()), (VARY, ACCEPT.into())];
        (headers, metrics.render_shared(exposition))
    };
    Router::new()
        .route("/livez", get(move || async move { (no_store(), "alive\n") }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_in_accepted_format))
}
