//! The HTTP side: REST for programs and a web page for people.
//!
//! Every route calls [`Classifier`], so HTTP and gRPC accept the same requests and return the same
//! results. [`types`] defines the JSON and `openapi` describes it. Rules of classification do not
//! belong here.

mod batch_list;
mod movies;
mod openapi;
mod page;
mod predict_genre;
pub mod types;

use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::{get, post};
use http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use service_kit::{
    API_KEY, ApiError, ApiKeys, BodyLimits, GRPC_WEB_REQUEST_HEADERS, GRPC_WEB_RESPONSE_HEADERS,
    MemoryBudget, MessageBudget, Readiness, guard_api, is_grpc_web, method_not_allowed, openapi_route,
};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

pub use self::openapi::document as openapi_document;
use crate::classifier::Classifier;
use crate::config::RestConfig;
use crate::open_inference::Genres;

/// How many bytes of a body of the Open Inference Protocol are JSON, in requests and replies.
const JSON_LENGTH: HeaderName = HeaderName::from_static(::open_inference::JSON_LENGTH);

/// The state of the REST routes. Clones share it.
#[derive(Clone)]
struct RestState {
    classifier: Classifier,
    limits: BodyLimits,
}

impl FromRef<RestState> for BodyLimits {
    fn from_ref(rest: &RestState) -> Self {
        rest.limits.clone()
    }
}

/// Returns [`routes`] and those of the Open Inference Protocol, whose model is ready while
/// `readiness` says so.
pub fn routes_with_open_inference(
    classifier: Classifier,
    readiness: Readiness,
    config: &RestConfig,
    keys: Option<ApiKeys>,
    memory: MemoryBudget,
) -> Router {
    let limits = body_limits(&classifier, config, memory.clone());
    let genres = Genres::new(classifier.clone(), readiness);
    let open_inference = ::open_inference::routes(genres, keys.clone(), limits);
    // A layer covers only the routes that are there when it is added.
    routes(classifier, config, keys, memory).merge(open_inference.layer(cors(&config.cors_origins)))
}

/// Returns the routes of our own API and the page. `keys` guard the API. The page stays open, because
/// it does nothing without the API. Unfinished bodies count in `memory`.
pub fn routes(
    classifier: Classifier,
    config: &RestConfig,
    keys: Option<ApiKeys>,
    memory: MemoryBudget,
) -> Router {
    let limits = classifier.limits();
    let body_limits = body_limits(&classifier, config, memory);
    let api = Router::new()
        .route("/v1/movies:classify", post(movies::classify))
        .route("/v1/movies:batchClassify", post(movies::batch_classify))
        .route("/v1/model", get(movies::model))
        .route("/predict_genre", post(predict_genre::predict_genre));
    let guarded =
        guard_api(api, keys, &body_limits).with_state(RestState { classifier, limits: body_limits });
    let open =
        Router::new().route("/openapi.json", openapi_route(&openapi::document(limits))).merge(page::routes());
    guarded
        .merge(open)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors(&config.cors_origins))
}

/// Returns the limits of a request with a body.
fn body_limits(classifier: &Classifier, config: &RestConfig, memory: MemoryBudget) -> BodyLimits {
    let max_bytes = classifier.limits().max_json_bytes();
    BodyLimits { timeout: config.timeout, max_bytes, budget: MessageBudget::new(memory) }
}

/// Adds the security headers for browsers to every response.
pub fn with_security_headers(routes: Router) -> Router {
    let set = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    routes
        .layer(set(CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY_VALUE))
        .layer(set(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(set(X_FRAME_OPTIONS, "DENY"))
        .layer(set(REFERRER_POLICY, "no-referrer"))
        .layer(set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(set(HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"))
}

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    if origins.is_empty() {
        return CorsLayer::new();
    }
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().cloned())
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([CONTENT_TYPE, AUTHORIZATION, API_KEY, JSON_LENGTH])
        .expose_headers([RETRY_AFTER, WWW_AUTHENTICATE, JSON_LENGTH])
        .max_age(Duration::from_secs(3600))
}

/// Returns CORS as [`routes`] has it, with the headers of gRPC-Web.
pub fn grpc_web_cors(origins: &[HeaderValue]) -> CorsLayer {
    cors(origins).allow_headers(GRPC_WEB_REQUEST_HEADERS).expose_headers(GRPC_WEB_RESPONSE_HEADERS)
}

async fn not_found(headers: HeaderMap) -> ApiError {
    let message = if is_grpc_web(&headers) {
        "no such method, or gRPC-Web is off; set rest.grpc_web to serve it".to_owned()
    } else {
        "no such path; /openapi.json lists the paths".to_owned()
    };
    ApiError::Http { status: StatusCode::NOT_FOUND, reason: "NOT_FOUND", message }
}
