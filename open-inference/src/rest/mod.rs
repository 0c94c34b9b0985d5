//! `/v2`: the protocol over REST, with the binary data of Triton.
//!
//! Errors have the status of our own API and the body of the protocol.

mod body;
mod bounded;
mod openapi;
mod replies;
mod reply;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRef, FromRequest as _, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde::{Deserialize, Serialize};
use service_kit::{ApiError, ApiKeys, BodyLimits, RawBody, guard_api, method_not_allowed, with_error_body};

use self::body::InferBody;
pub use self::body::JSON_LENGTH;
pub use self::openapi::openapi;
use self::replies::{
    Error, ModelConfig, ModelMetadata, ModelReady, ServerLive, ServerMetadata, ServerReady, TensorMetadata,
};
use self::reply::InferReply;
use crate::model::{self, Call, Model};

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
    for path in of_model("/config") {
        guarded = guarded.route(&path, get(config::<M>));
    }
    for path in of_model("/infer") {
        guarded = guarded.route(&path, post(infer::<M>));
    }
    let routes = guard_api(guarded, keys, &limits).merge(open);
    with_error_body(routes.method_not_allowed_fallback(method_not_allowed), error_body)
        .with_state(Rest { model, limits })
}

/// The error body of the protocol.
fn error_body(error: &ApiError) -> Error {
    Error { error: error.to_string() }
}

fn no_store(status: StatusCode, body: &impl Serialize) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn status_of(is_ready: bool) -> StatusCode {
    if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Whether the process runs. Needs no API key.
#[utoipa::path(
    get, path = "/v2/health/live", tag = "inference", operation_id = "serverLive",
    responses((status = 200, description = "It runs", body = ServerLive)),
)]
async fn live() -> Response {
    no_store(StatusCode::OK, &ServerLive { live: true })
}

/// Whether the service can run its model. Needs no API key.
#[utoipa::path(
    get, path = "/v2/health/ready", tag = "inference", operation_id = "serverReady",
    responses(
        (status = 200, description = "It can", body = ServerReady),
        (status = 503, description = "It cannot", body = ServerReady),
    ),
)]
async fn ready<M: Model>(State(rest): State<Rest<M>>) -> Response {
    let ready = rest.model.is_ready();
    no_store(status_of(ready), &ServerReady { ready })
}

/// Describe the service.
#[utoipa::path(
    get, path = "/v2", tag = "inference", operation_id = "serverMetadata",
    responses((status = 200, description = "The service", body = ServerMetadata)),
)]
async fn server<M: Model>(State(rest): State<Rest<M>>) -> Json<ServerMetadata> {
    let server = rest.model.server();
    Json(ServerMetadata { name: server.name, version: server.version, extensions: &model::EXTENSIONS })
}

/// Describe the model.
#[utoipa::path(
    get, path = "/v2/models/{name}", tag = "inference", operation_id = "modelMetadata",
    params(("name" = String, Path, description = "The model that is served")),
    responses(
        (status = 200, description = "The model", body = ModelMetadata),
        (status = 404, description = "No such model, or no such version", body = Error),
    ),
)]
async fn describe<M: Model>(
    State(rest): State<Rest<M>>,
    named: PathOf,
) -> Result<Json<ModelMetadata>, ApiError> {
    let model = rest.model.description();
    let named = named_model(named)?;
    model.check(&named.name, &named.version)?;
    Ok(Json(ModelMetadata {
        name: model.name,
        versions: vec![model.version],
        platform: model.platform,
        inputs: model.inputs.iter().map(TensorMetadata::of).collect(),
        outputs: model.outputs.iter().map(TensorMetadata::of).collect(),
    }))
}

/// Describe the model as a configuration of Triton does.
#[utoipa::path(
    get, path = "/v2/models/{name}/config", tag = "inference", operation_id = "modelConfig",
    params(("name" = String, Path, description = "The model that is served")),
    responses(
        (status = 200, description = "The configuration", body = ModelConfig),
        (status = 404, description = "No such model, or no such version", body = Error),
    ),
)]
async fn config<M: Model>(State(rest): State<Rest<M>>, named: PathOf) -> Result<Json<ModelConfig>, ApiError> {
    let model = rest.model.description();
    let named = named_model(named)?;
    model.check(&named.name, &named.version)?;
    Ok(Json(ModelConfig::of(model)))
}

/// Whether the model can run.
#[utoipa::path(
    get, path = "/v2/models/{name}/ready", tag = "inference", operation_id = "modelReady",
    params(("name" = String, Path, description = "The model that is served")),
    responses(
        (status = 200, description = "It can", body = ModelReady),
        (status = 404, description = "No such model, or no such version", body = Error),
        (status = 503, description = "It cannot", body = ModelReady),
    ),
)]
async fn model_ready<M: Model>(State(rest): State<Rest<M>>, named: PathOf) -> Result<Response, ApiError> {
    let model = rest.model.description();
    let named = named_model(named)?;
    model.check(&named.name, &named.version)?;
    let ready = rest.model.is_ready();
    Ok(no_store(status_of(ready), &ModelReady { name: model.name, ready }))
}

/// Run the model on a batch. One wrong text rejects the whole batch.
///
/// Tensors may also be raw, behind the JSON, as in Triton's extension `binary_tensor_data`: an input
/// with the parameter `binary_data_size`, and an output with `binary_data`. The header
/// `Inference-Header-Content-Length` is the number of bytes that are JSON.
#[utoipa::path(
    post, path = "/v2/models/{name}/infer", tag = "inference", operation_id = "infer",
    params(("name" = String, Path, description = "The model that is served")),
    request_body = InferBody,
    responses(
        (status = 200, description = "The outputs of the model", content(
            (InferReply = "application/json"),
            ("application/octet-stream"),
        )),
        (status = 404, description = "No such model, or no such version", body = Error),
    ),
)]
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
