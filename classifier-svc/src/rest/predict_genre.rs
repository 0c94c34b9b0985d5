//! `POST /predict_genre/`: the interface of the Python system that this service replaces.

use axum::Json;
use axum::extract::State;
use proto::classifier::v1::{ClassifyResponse, Movie};
use serde::{Deserialize, Serialize};
use service_kit::{ApiError, JsonBody};
use utoipa::ToSchema;

use super::RestState;
use super::batch_list::batch_list;
use crate::call::Call;
use crate::columns::in_columns;
use crate::pipeline::Include;

/// Movies as two lists of equal length.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct PredictGenreRequest {
    /// Titles; an empty title is allowed.
    #[serde(deserialize_with = "batch_list")]
    title: Vec<String>,
    /// Overviews, one for each title; none may be blank.
    #[serde(deserialize_with = "batch_list")]
    overview: Vec<String>,
}

/// A movie and its genres.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct PredictGenreResponse {
    /// The title from the request.
    title: String,
    /// The overview from the request.
    overview: String,
    /// The predicted genres in the model's order, separated by a comma and a space; may be empty.
    #[schema(example = "Thriller, Horror")]
    genre: String,
}

/// Predict the genres of movies in the format of the reference system.
#[utoipa::path(
    post, path = "/predict_genre/", tag = "reference", operation_id = "predictGenre",
    request_body = PredictGenreRequest,
    responses(
        (status = 200, description = "One result for each movie, in order", body = Vec<PredictGenreResponse>),
    ),
)]
pub(super) async fn predict_genre(
    State(rest): State<RestState>,
    JsonBody { body: request, caller, deadline }: JsonBody<PredictGenreRequest>,
) -> Result<Json<Vec<PredictGenreResponse>>, ApiError> {
    let (titles, overviews) = (request.title, request.overview);
    if titles.len() != overviews.len() {
        let description =
            format!("expected one for each title ({}), found {}", titles.len(), overviews.len());
        return Err(ApiError::invalid("overview", "LENGTHS_DIFFER", description));
    }
    let movies: Vec<_> =
        titles.into_iter().zip(overviews).map(|(title, overview)| Movie { title, overview }).collect();
    let include = Include { scores: true, ..Include::default() };
    let classified = rest.classifier.classify_batch(&movies, include, &Call::new(caller, deadline)).await;
    let (results, _) = classified.map_err(in_columns)?;
    let responses = movies.into_iter().zip(results).map(|(movie, result)| PredictGenreResponse {
        title: movie.title,
        overview: movie.overview,
        genre: genre(&result),
    });
    Ok(Json(responses.collect()))
}

/// Joins the predicted genres in the model's order, as the reference system does.
fn genre(response: &ClassifyResponse) -> String {
    let predicted =
        response.scores.iter().filter(|score| response.genres.iter().any(|genre| genre.label == score.label));
    predicted.map(|score| score.label.as_str()).collect::<Vec<_>>().join(", ")
}
