//! Extracts a JSON body, or a problem that names the wrong field.
//!
//! axum's `Json` does not fit: it accepts any `+json` content type, has no time limit, reads a body
//! that announces too many bytes, and reports the wrong field only inside a sentence.

use std::error::Error as _;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use service_kit::{ApiError, Caller, Deadline};

use super::object::Object;
use super::state::RestState;
use crate::call::Call;

/// A request body as `T`.
pub(super) struct JsonBody<T> {
    pub(super) body: T,
    /// The deadline includes the time to read the body.
    pub(super) call: Call,
}

impl<T: DeserializeOwned> FromRequest<RestState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, rest: &RestState) -> Result<Self, ApiError> {
        let deadline = Deadline::after(rest.timeout);
        let caller = Caller::in_extensions(request.extensions());
        if !is_json(&request) {
            let found = request.headers().get(CONTENT_TYPE).map_or("none".to_owned(), |v| format!("{v:?}"));
            let message = format!("content-type: expected application/json, found {found}");
            return Err(rejection(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message));
        }
        // Reject an announced length before reading the body.
        let (max, announced) =
            (rest.classifier.limits().max_json_bytes(), request.body().size_hint().lower());
        if announced > max as u64 {
            return Err(too_large(format!("expected at most {max} bytes, found {announced}")));
        }
        let bytes = deadline
            .bound(Bytes::from_request(rest.budget.single_message(request).map(Body::new), rest))
            .await
            .map_err(|_| body_timeout(rest.timeout))?
            .map_err(|rejection| unreadable(&rejection))?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let Object(body) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            // The path is empty before the first field, and JSON allows an empty key.
            let field = if matches!(path.as_str(), "." | "?" | "") { "(body)".to_owned() } else { path };
            ApiError::invalid(field, "INVALID_JSON", error.inner().to_string())
        })?;
        // Reject trailing characters after the value.
        json.end().map_err(|error| ApiError::invalid("(body)", "INVALID_JSON", error.to_string()))?;
        // serde_json does not check the encoding of ignored fields.
        std::str::from_utf8(&bytes)
            .map_err(|error| ApiError::invalid("(body)", "INVALID_JSON", error.to_string()))?;
        Ok(Self { body, call: Call { caller, deadline, is_item: false } })
    }
}

fn is_json(request: &Request) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unreadable(rejection: &BytesRejection) -> ApiError {
    let mut causes = std::iter::successors(rejection.source(), |&error| error.source());
    if let Some(error) = causes.find_map(|error| error.downcast_ref::<ApiError>()) {
        return error.clone();
    }
    let message = rejection.body_text();
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large(message);
    }
    ApiError::invalid("(body)", "UNREADABLE_BODY", message)
}

fn too_large(message: String) -> ApiError {
    rejection(StatusCode::PAYLOAD_TOO_LARGE, "MESSAGE_TOO_LARGE", message)
}

fn body_timeout(timeout: Duration) -> ApiError {
    let message = format!("expected the whole body within {} s", timeout.as_secs_f64());
    rejection(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", message)
}

fn rejection(status: StatusCode, reason: &'static str, message: String) -> ApiError {
    ApiError::Http { status, reason, message }
}
