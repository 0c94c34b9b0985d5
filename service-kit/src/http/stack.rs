//! The layers of an HTTP listener, the same for every service.

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;

use super::allowed_hosts::check_hosts;
use super::json_body::BodyLimits;
use super::metrics::http_metrics;
use crate::{AllowedHosts, ApiError, ApiKeys, Metrics, require_api_key};

/// Puts the layers of an API around `routes`: API keys, the limit of a body, and panics.
pub fn guard_api<S>(routes: Router<S>, keys: Option<ApiKeys>, limits: &BodyLimits) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    routes
        .layer(CatchPanicLayer::custom(|_| ApiError::defect().to_http()))
        .layer(DefaultBodyLimit::max(limits.max_bytes))
        .layer(require_api_key(keys, |_| false, |error| error.to_http()))
}

/// Replaces the bodies of the errors of `routes` by JSON, for a protocol that has a form of its own.
/// Status and headers stay.
pub fn with_error_body<S, T>(routes: Router<S>, to_body: fn(&ApiError) -> T) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    T: Serialize + 'static,
{
    routes.layer(map_response(move |mut response: Response<Body>| async move {
        if let Some(error) = response.extensions_mut().remove::<ApiError>() {
            let body = serde_json::to_vec(&to_body(&error)).expect("strings and numbers are valid JSON");
            *response.body_mut() = Body::from(body);
            let headers = response.headers_mut();
            headers.remove(CONTENT_LENGTH);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        response
    }))
}

/// Puts the layers of a listener around all of its `routes`: host names, panics and metrics.
pub fn http_stack(routes: Router, allowed_hosts: AllowedHosts, metrics: &Metrics) -> Router {
    http_metrics(check_hosts(catch_panics(routes), allowed_hosts), metrics)
}

/// The handler of a request whose path has no such method; for `method_not_allowed_fallback`.
pub async fn method_not_allowed(method: Method) -> ApiError {
    let message = format!("method {method} is not allowed here; the Allow header lists the allowed methods");
    ApiError::Http { status: StatusCode::METHOD_NOT_ALLOWED, reason: "METHOD_NOT_ALLOWED", message }
}

/// Answers 500 when a handler panics, so that a panic costs only its own request. The panic hook
/// logs the cause.
fn catch_panics(routes: Router) -> Router {
    routes.layer(CatchPanicLayer::custom(|_| ApiError::defect().to_http()))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn answers_a_panic_with_a_problem() {
        async fn panics() -> &'static str {
            panic!("on purpose")
        }
        let routes = Router::new().route("/", get(panics));
        let routes = http_stack(routes, AllowedHosts::Any, &Metrics::default());
        let response =
            routes.oneshot(http::Request::get("/").body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], crate::PROBLEM_CONTENT_TYPE);
    }
}
