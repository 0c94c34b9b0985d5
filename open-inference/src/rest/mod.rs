//! `/v2`: the protocol over REST, with the binary data of Triton.
//!
//! Errors have the status of our own API and the body of the protocol.

mod body;
mod reply;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRef, FromRequest as _, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde::Deserialize;
use serde_json::json;
use service_kit::{ApiError, ApiKeys, BodyLimits, RawBody, guard_api, method_not_allowed, with_error_body};

use crate::model::{self, Call, Model};
use crate::tensor::TensorDescription;

/// The header that says how many bytes of a body are JSON; the rest are raw tensors.
pub(crate) const JSON_LENGTH: &str = "inference-header-content-length";

/// The state of all handlers.
#[derive(Clone)]
struct Rest<M> {
    model: M,
    limits: BodyLimits,
}

impl<M> FromRef<Rest<M>> for BodyLimits {
    fn from_ref(rest: &Rest<M>) -> Self {
        rest.limits.clone()
    }
}

/// The part of a path that names a model.
#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    /// Empty means the current version.
    #[serde(default)]
    version: String,
}

/// Returns the routes of the protocol, all under `/v2`. `keys` guard all but the probes.
pub fn routes<M: Model>(model: M, keys: Option<ApiKeys>, limits: BodyLimits) -> Router {
    let open = Router::new().route("/v2/health/live", get(live)).route("/v2/health/ready", get(ready::<M>));
    let of_model =
        |path: &str| ["", "/versions/{version}"].map(|version| format!("/v2/models/{{name}}{version}{path}"));
    let mut guarded = Router::new().route("/v2", get(server::<M>));
    for path in of_model("") {
        guarded = guarded.route(&path, get(describe::<M>));
    }
    for path in of_model("/ready") {
        guarded = guarded.route(&path, get(model_ready::<M>));
    }
    for path in of_model("/infer") {
        guarded = guarded.route(&path, post(infer::<M>));
    }
    let routes = guard_api(guarded, keys, &limits).merge(open);
    with_error_body(routes.method_not_allowed_fallback(method_not_allowed), error_body)
        .with_state(Rest { model, limits })
}

/// The error body of the protocol.
fn error_body(error: &ApiError) -> serde_json::Value {
    json!({"error": error.to_string()})
}

fn no_store(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn status_of(is_ready: bool) -> StatusCode {
    if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn live() -> Response {
    no_store(StatusCode::OK, &json!({"live": true}))
}

async fn ready<M: Model>(State(rest): State<Rest<M>>) -> Response {
    let is_ready = rest.model.is_ready();
    no_store(status_of(is_ready), &json!({"ready": is_ready}))
}

async fn server<M: Model>(State(rest): State<Rest<M>>) -> Response {
    let server = rest.model.server();
    let body = json!({"name": server.name, "version": server.version, "extensions": model::EXTENSIONS});
    Json(body).into_response()
}

async fn describe<M: Model>(
    State(rest): State<Rest<M>>,
    named: PathOf,
) -> Result<Json<serde_json::Value>, ApiError> {
    let model = rest.model.description();
    let named = named_model(named)?;
    model.check(&named.name, &named.version)?;
    let tensors = |tensors: &[TensorDescription]| -> Vec<serde_json::Value> {
        let tensor = |tensor: &TensorDescription| json!({"name": tensor.name, "datatype": tensor.datatype.name(), "shape": tensor.wire_shape()});
        tensors.iter().map(tensor).collect()
    };
    Ok(Json(json!({
        "name": model.name,
        "versions": [model.version],
        "platform": model.platform,
        "inputs": tensors(&model.inputs),
        "outputs": tensors(&model.outputs),
    })))
}

async fn model_ready<M: Model>(State(rest): State<Rest<M>>, named: PathOf) -> Result<Response, ApiError> {
    let model = rest.model.description();
    let named = named_model(named)?;
    model.check(&named.name, &named.version)?;
    let is_ready = rest.model.is_ready();
    Ok(no_store(status_of(is_ready), &json!({"name": model.name, "ready": is_ready})))
}

async fn infer<M: Model>(
    State(rest): State<Rest<M>>,
    named: PathOf,
    request: Request,
) -> Result<Response, ApiError> {
    let named = named_model(named)?;
    let json_length = body::json_length(request.headers())?;
    let RawBody { bytes, caller, deadline } = RawBody::from_request(request, &rest).await?;
    let body::Read { id, request, binary } = body::read(named.name, named.version, &bytes, json_length)?;
    let model = request.model.clone();
    let inferred = model::infer(&rest.model, request, Call { caller, deadline }).await?;
    Ok(reply::response(&model, id.as_deref(), &inferred, &binary))
}

/// A path as axum extracts it.
type PathOf = Result<Path<Named>, PathRejection>;

fn named_model(named: PathOf) -> Result<Named, ApiError> {
    let Path(named) = named.map_err(|rejection| ApiError::Http {
        status: rejection.status(),
        reason: "INVALID_PATH",
        message: rejection.body_text(),
    })?;
    Ok(named)
}
