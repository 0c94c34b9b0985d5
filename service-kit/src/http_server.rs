//! The HTTP server around routes: what orchestrators ask for, and shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::{Deserialize, Serialize};

use crate::metrics::METRICS_CONTENT_TYPE;
use crate::{Incoming, Metrics, Shutdown};

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

/// Whether a service is ready for calls. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Now.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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

/// Serves `routes` until shutdown; then nothing new is accepted, and requests in flight get `drain`.
pub async fn serve_http(
    routes: Router,
    incoming: Incoming,
    drain: Duration,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let token = shutdown.clone();
    let server = axum::serve(incoming, routes)
        .with_graceful_shutdown(async move { token.cancelled().await })
        .into_future();
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        result = server => result,
        () = drained => {
            tracing::warn!(seconds = drain.as_secs_f64(), "requests were still in flight after the drain time");
            Ok(())
        }
    }
}
