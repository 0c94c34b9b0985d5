//! The web page: four files inside the binary.
//!
//! `include_str!` is enough for four files; `rust-embed` pays off for folders.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

/// Allows only what this service serves.
pub(super) const CONTENT_SECURITY_POLICY_VALUE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = include_str!("../../web/index.html");
const STYLE: &str = include_str!("../../web/style.css");
const SCRIPT: &str = include_str!("../../web/app.js");
const ICON: &str = include_str!("../../web/favicon.svg");

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", HTML) }))
        .route("/style.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
        .route("/app.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/favicon.svg", get(|| async { file("image/svg+xml", ICON) }))
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    // A new version of the service may serve other files under the same names.
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")], text)
}
