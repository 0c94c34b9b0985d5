//! Durations and outcomes of HTTP requests, by route and status.
//!
//! The metrics layer of tower-http does not fit: it counts requests in flight, but measures neither
//! time nor status.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::{Metrics, latency_histogram};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    status: u16,
}

/// Measures every request to `routes`. Unknown paths share the label `other`, because clients can
/// invent paths.
pub(super) fn http_metrics(routes: Router, metrics: &Metrics) -> Router {
    let durations: Family<Labels, Histogram, fn() -> Histogram> = metrics.register(
        "http_request_seconds",
        "HTTP requests until their response begins, by route and status",
        Family::new_with_constructor(latency_histogram),
    );
    routes.layer(from_fn(move |request: Request, next: Next| {
        let durations = durations.clone();
        async move {
            let route = request.extensions().get::<MatchedPath>();
            let route = route.map_or("other", MatchedPath::as_str).to_owned();
            let begin = Instant::now();
            let response = next.run(request).await;
            let labels = Labels { route, status: response.status().as_u16() };
            durations.get_or_create_owned(&labels).observe(begin.elapsed().as_secs_f64());
            response
        }
    }))
}
