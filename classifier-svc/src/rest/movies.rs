//! Handlers of `/v1/movies:…` and `/v1/model`.

use axum::Json;
use axum::extract::State;
use proto::classifier::v1 as wire;
use service_kit::{ApiError, JsonBody};

use super::RestState;
use super::types::{BatchClassifyRequest, BatchClassifyResponse, ClassifyRequest, ClassifyResponse, Model};
use crate::call::Call;
use crate::pipeline::Include;
use crate::selection::Selection;

/// Classify one movie.
#[utoipa::path(
    post, path = "/v1/movies:classify", tag = "movies", operation_id = "classify",
    request_body = ClassifyRequest,
    responses((status = 200, description = "The movie's genres", body = ClassifyResponse)),
)]
pub(super) async fn classify(
    State(rest): State<RestState>,
    JsonBody { body: request, caller, deadline }: JsonBody<ClassifyRequest>,
) -> Result<Json<ClassifyResponse>, ApiError> {
    let movie = wire::Movie { title: request.title.unwrap_or_default(), overview: request.overview };
    let include = Include {
        genres: Selection { min_probability: request.min_probability, top_k: request.top_k },
        scores: request.include_scores.unwrap_or_default(),
        explanation: request.explain.unwrap_or_default(),
    };
    Ok(Json(rest.classifier.classify(movie, include, &Call::new(caller, deadline)).await?.into()))
}

/// Classify a batch of movies. One invalid movie rejects the whole batch.
#[utoipa::path(
    post, path = "/v1/movies:batchClassify", tag = "movies", operation_id = "batchClassify",
    request_body = BatchClassifyRequest,
    responses(
        (status = 200, description = "One result for each movie, in order", body = BatchClassifyResponse),
    ),
)]
pub(super) async fn batch_classify(
    State(rest): State<RestState>,
    JsonBody { body: request, caller, deadline }: JsonBody<BatchClassifyRequest>,
) -> Result<Json<BatchClassifyResponse>, ApiError> {
    let movies: Vec<wire::Movie> = request.movies.into_iter().map(Into::into).collect();
    let include = Include {
        genres: Selection { min_probability: request.min_probability, top_k: request.top_k },
        scores: request.include_scores.unwrap_or_default(),
        explanation: false,
    };
    let (results, model_version) =
        rest.classifier.classify_batch(&movies, include, &Call::new(caller, deadline)).await?;
    Ok(Json(BatchClassifyResponse { results: results.into_iter().map(Into::into).collect(), model_version }))
}

/// Describe the current model.
#[utoipa::path(
    get, path = "/v1/model", tag = "model", operation_id = "getModel",
    responses((status = 200, description = "The current model", body = Model)),
)]
pub(super) async fn model(State(rest): State<RestState>) -> Json<Model> {
    Json(rest.classifier.model().into())
}
