//! `GET /v1/models` and `GET /v1/models/{model}`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::Serialize;
use service_kit::ApiError;
use utoipa::ToSchema;

use super::openai_error::{MODEL_NOT_FOUND, OpenAiError};
use super::{RestState, quoted};
use crate::bundle::Description;

/// The models that are served: one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    #[schema(example = "list")]
    object: &'static str,
    #[schema(value_type = Vec<Model>)]
    data: [Model; 1],
}

/// The encoder, as OpenAI describes a model, with what else a client of an encoder needs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Model {
    /// The id of the bundle.
    id: String,
    #[schema(example = "model")]
    object: &'static str,
    /// Unix time; 0, because bundles do not have one.
    created: u64,
    owned_by: &'static str,
    version: String,
    fingerprint: String,
    /// Floats in a vector.
    dimension: usize,
    /// A longer text is truncated.
    max_tokens: usize,
}

impl Model {
    fn of(encoder: &Description) -> Self {
        Self {
            id: encoder.id.clone(),
            object: "model",
            created: 0,
            owned_by: "movieclassifier",
            version: encoder.version.clone(),
            fingerprint: encoder.fingerprint.clone(),
            dimension: encoder.dimension,
            max_tokens: encoder.max_tokens,
        }
    }
}

/// List the one model that is served.
#[utoipa::path(
    get, path = "/v1/models", tag = "openai", operation_id = "listModels",
    responses((status = 200, description = "The model", body = ModelList)),
)]
pub(super) async fn list(State(rest): State<RestState>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: [Model::of(rest.encoder.encoder().description())] })
}

/// Describe the model that is served.
#[utoipa::path(
    get, path = "/v1/models/{model}", tag = "openai", operation_id = "getModel",
    params(("model" = String, Path)),
    responses(
        (status = 200, description = "The model", body = Model),
        (status = 404, description = "Another model than the one that is served", body = OpenAiError),
    ),
)]
pub(super) async fn one(
    State(rest): State<RestState>,
    model: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, ApiError> {
    let Path(model) = model.map_err(|rejection| ApiError::Http {
        status: rejection.status(),
        reason: "INVALID_PATH",
        message: rejection.body_text(),
    })?;
    let encoder = rest.encoder.encoder().description();
    check_model(&model, encoder)?;
    Ok(Json(Model::of(encoder)))
}

/// Checks that `model` is the one that is served.
pub(super) fn check_model(model: &str, served: &Description) -> Result<(), ApiError> {
    if model == served.id {
        return Ok(());
    }
    let message = format!("model {} is not served here; expected {:?}", quoted(model), served.id);
    Err(ApiError::Http { status: StatusCode::NOT_FOUND, reason: MODEL_NOT_FOUND, message })
}
