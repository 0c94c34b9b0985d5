//! The HTTP side, with the interface of OpenAI, for the clients that people have already.
//!
//! Every route calls [`LimitedEncoder`], so HTTP and gRPC accept the same texts and return the same
//! vectors.

mod embeddings;
mod input;
mod models;
mod openai_error;
mod openapi;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::{get, post};
use http::StatusCode;
use service_kit::{
    ApiError, ApiKeys, BodyLimits, MemoryBudget, MessageBudget, guard_api, method_not_allowed, openapi_route,
    with_error_body,
};
use tokio::sync::Semaphore;

use self::openai_error::OpenAiError;
use crate::limited_encoder::LimitedEncoder;

/// The state of the REST routes. Clones share it.
#[derive(Clone)]
struct RestState {
    encoder: LimitedEncoder,
    limits: BodyLimits,
    /// Bounds how many large responses are written at a time.
    writers: Arc<Semaphore>,
}

/// Large responses that are written at a time.
const WRITERS: usize = 2;

impl FromRef<RestState> for BodyLimits {
    fn from_ref(rest: &RestState) -> Self {
        rest.limits.clone()
    }
}

/// Returns the routes of OpenAI's interface, and `/openapi.json`, which describes `/v2`, too. `keys`
/// guard all but that one, and no request takes longer than `timeout`. Unfinished bodies count in
/// `memory`.
pub fn routes(
    encoder: LimitedEncoder,
    timeout: Duration,
    keys: Option<ApiKeys>,
    memory: MemoryBudget,
) -> Router {
    let limits = body_limits(&encoder, timeout, memory);
    let openai = Router::new()
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{model}", get(models::one))
        .method_not_allowed_fallback(method_not_allowed);
    let openai = with_error_body(guard_api(openai, keys, &limits), OpenAiError::of);
    let document = openapi::document(encoder.encoder().description(), encoder.limits());
    let open = Router::new()
        .route("/openapi.json", openapi_route(&document))
        .method_not_allowed_fallback(method_not_allowed);
    openai.merge(open).fallback(not_found).with_state(RestState {
        encoder,
        limits,
        writers: Arc::new(Semaphore::new(WRITERS)),
    })
}

/// Quotes the beginning of a value that was found, for an error.
fn quoted(found: &str) -> String {
    const MAX_CHARS: usize = 100;
    format!("{:?}", found.chars().take(MAX_CHARS).collect::<String>())
}

/// Returns the limits of a request with a body.
pub(crate) fn body_limits(encoder: &LimitedEncoder, timeout: Duration, memory: MemoryBudget) -> BodyLimits {
    let max_bytes = encoder.limits().max_json_bytes();
    BodyLimits { timeout, max_bytes, budget: MessageBudget::new(memory) }
}

async fn not_found() -> ApiError {
    ApiError::Http {
        status: StatusCode::NOT_FOUND,
        reason: "NOT_FOUND",
        message: "no such path; /openapi.json lists the paths".to_owned(),
    }
}
