//! A JSON body, or a problem that says what is wrong with it and where.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use service_kit::ApiError;

use super::Problem;
use super::object::Object;

/// The body as `T`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(&request) {
            let found = request.headers().get(CONTENT_TYPE).map_or("none".to_owned(), |v| format!("{v:?}"));
            let message = format!("content-type: expected application/json, found {found}");
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::Http { status, reason: "UNSUPPORTED_MEDIA_TYPE", message }.into());
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| unreadable(&rejection))?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            // Before any field has been read there is no path; and JSON has a key without a letter.
            let field = if matches!(path.as_str(), "." | "?" | "") { "(body)".to_owned() } else { path };
            ApiError::invalid(field, "INVALID_JSON", error.inner().to_string())
        })?;
        // Something behind the value is as wrong as something in it.
        json.end().map_err(|error| ApiError::invalid("(body)", "INVALID_JSON", error.to_string()))?;
        // What is in no field is not looked at before.
        std::str::from_utf8(&bytes)
            .map_err(|error| ApiError::invalid("(body)", "INVALID_JSON", error.to_string()))?;
        Ok(Self(value))
    }
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unreadable(rejection: &BytesRejection) -> Problem {
    let message = rejection.body_text();
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::Http { status: rejection.status(), reason: "MESSAGE_TOO_LARGE", message }.into();
    }
    ApiError::invalid("(body)", "UNREADABLE_BODY", message).into()
}
