//! A JSON body, or a problem that says what is wrong with it and where.

use std::error::Error as _;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use service_kit::{ApiError, Deadline};

use super::object::Object;
use super::state::RestState;

/// The body as `T`.
pub(super) struct JsonBody<T> {
    pub(super) body: T,
    /// When the request has taken as long as it may; the time began before its body was read.
    pub(super) deadline: Deadline,
}

impl<T: DeserializeOwned> FromRequest<RestState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, rest: &RestState) -> Result<Self, ApiError> {
        let deadline = Deadline::after(rest.timeout);
        if !is_json(&request) {
            let found = request.headers().get(CONTENT_TYPE).map_or("none".to_owned(), |v| format!("{v:?}"));
            let message = format!("content-type: expected application/json, found {found}");
            return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message));
        }
        // Said before the body is read, where its length is announced.
        let (max, announced) =
            (rest.classifier.limits().max_json_bytes(), request.body().size_hint().lower());
        if announced > max as u64 {
            return Err(too_large(format!("expected at most {max} bytes, found {announced}")));
        }
        let bytes = deadline
            .bound(Bytes::from_request(request.map(|body| Body::new(rest.budget.message(body))), rest))
            .await
            .map_err(|_| did_not_come(rest.timeout))?
            .map_err(|rejection| unreadable(&rejection))?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let Object(body) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
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
        Ok(Self { body, deadline })
    }
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unreadable(rejection: &BytesRejection) -> ApiError {
    let mut causes = std::iter::successors(rejection.source(), |&error| error.source());
    if let Some(ours) = causes.find_map(|error| error.downcast_ref::<ApiError>()) {
        return ours.clone();
    }
    let message = rejection.body_text();
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large(message);
    }
    ApiError::invalid("(body)", "UNREADABLE_BODY", message)
}

fn too_large(message: String) -> ApiError {
    refused(StatusCode::PAYLOAD_TOO_LARGE, "MESSAGE_TOO_LARGE", message)
}

fn did_not_come(timeout: Duration) -> ApiError {
    let message = format!("expected the whole body within {} s", timeout.as_secs_f64());
    refused(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", message)
}

fn refused(status: StatusCode, reason: &'static str, message: String) -> ApiError {
    ApiError::Http { status, reason, message }
}
