//! Reads the body of a request within its limits, as JSON if wanted, or fails with a problem that
//! names the wrong field.
//!
//! axum's `Json` does not fit: it accepts any `+json` content type, has no time limit, reads a body
//! that announces too many bytes, and reports the wrong field only inside a sentence.

use std::error::Error as _;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRef, FromRequest, Request};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use super::object::Object;
use crate::{ApiError, Caller, Deadline, MessageBudget};

/// The limits of a request with a body. Clones share the budget.
#[derive(Debug, Clone)]
pub struct BodyLimits {
    /// The time for a whole request, from its headers to its response.
    pub timeout: Duration,
    /// The most bytes of a body.
    pub max_bytes: usize,
    /// Counts the unfinished bodies of all requests.
    pub budget: MessageBudget,
}

/// A request body as bytes.
pub struct RawBody {
    /// The bytes.
    pub bytes: Bytes,
    /// Whose share and quota the request uses.
    pub caller: Caller,
    /// When the response stops being useful. It includes the time to read the body.
    pub deadline: Deadline,
}

/// A JSON object in a request body as `T`.
pub struct JsonBody<T> {
    /// The object.
    pub body: T,
    /// Whose share and quota the request uses.
    pub caller: Caller,
    /// When the response stops being useful. It includes the time to read the body.
    pub deadline: Deadline,
}

impl<S> FromRequest<S> for RawBody
where
    S: Send + Sync,
    BodyLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let limits = BodyLimits::from_ref(state);
        let deadline = Deadline::after(limits.timeout);
        let caller = Caller::in_extensions(request.extensions());
        // Reject an announced length before reading the body.
        let (max, announced) = (limits.max_bytes, request.body().size_hint().lower());
        if announced > max as u64 {
            return Err(too_large(format!("expected at most {max} bytes, found {announced}")));
        }
        let bytes = deadline
            .bound(Bytes::from_request(limits.budget.single_message(request).map(Body::new), state))
            .await
            .map_err(|_| body_timeout(limits.timeout))?
            .map_err(|rejection| unreadable(&rejection))?;
        Ok(Self { bytes, caller, deadline })
    }
}

impl<T, S> FromRequest<S> for JsonBody<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
    BodyLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(&request) {
            let found = request.headers().get(CONTENT_TYPE).map_or("none".to_owned(), |v| format!("{v:?}"));
            let message = format!("content-type: expected application/json, found {found}");
            return Err(rejection(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message));
        }
        let RawBody { bytes, caller, deadline } = RawBody::from_request(request, state).await?;
        Ok(Self { body: parse_json(&bytes)?, caller, deadline })
    }
}

/// Parses a JSON object. A byte order mark before it is ignored.
///
/// # Errors
/// Returns [`ApiError::Invalid`] with the path of the wrong field, or `(body)`.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    // serde knows the field, but of the encoding only that it is wrong.
    let invalid = |field: String, error: &serde_json::Error| {
        let description = match other_encoding(bytes) {
            Some(found) => format!("the body must be UTF-8; found {found}"),
            None => error.to_string(),
        };
        ApiError::invalid(field, "INVALID_JSON", description)
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(body) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        // The path is empty before the first field, and JSON allows an empty key.
        let field = if matches!(path.as_str(), "." | "?" | "") { "(body)".to_owned() } else { path };
        invalid(field, error.inner())
    })?;
    // Reject trailing characters after the value.
    json.end().map_err(|error| invalid("(body)".to_owned(), &error))?;
    // serde_json does not check the encoding of ignored fields.
    if let Some(found) = other_encoding(bytes) {
        let description = format!("the body must be UTF-8; found {found}");
        return Err(ApiError::invalid("(body)", "INVALID_JSON", description));
    }
    Ok(body)
}

/// Says in which encoding a body without a byte order mark of UTF-8 seems to be, unless it is UTF-8.
fn other_encoding(bytes: &[u8]) -> Option<String> {
    // JSON begins with an ASCII character, which has zeros beside it in UTF-16 and UTF-32
    // (RFC 4627, section 3).
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, _, ..] | [_, 0, 0, 0, ..] => {
            return Some("UTF-32".to_owned());
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => return Some("UTF-16".to_owned()),
        _ => {}
    }
    let error = std::str::from_utf8(bytes).err()?;
    let at = error.valid_up_to();
    Some(match error.error_len() {
        None => format!("the first bytes of a character at its end, offset {at}"),
        Some(_) => format!("byte 0x{:02x} at offset {at}, as in Latin-1 or Windows-1252", bytes[at]),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_encoding_of_a_body_that_is_not_utf_8() {
        let found = |bytes: &[u8]| other_encoding(bytes).unwrap_or_default();
        assert_eq!(found("{\"a\": \"é\"}".as_bytes()) + &found(b""), "");
        let utf16 =
            |bytes: fn(u16) -> [u8; 2]| "{\"a\": 1}".encode_utf16().flat_map(bytes).collect::<Vec<_>>();
        for units in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
            assert_eq!(found(&utf16(units)), "UTF-16");
            assert_eq!(found(&[&units(0xfeff)[..], &utf16(units)].concat()), "UTF-16");
        }
        assert_eq!(found(b"{\0\0\0}\0\0\0"), "UTF-32");
        let latin = found(b"{\"a\": \"caf\xe9\"}");
        assert_eq!(latin, "byte 0xe9 at offset 10, as in Latin-1 or Windows-1252");
        let cut = found(b"{\"a\": \"\xc3");
        assert_eq!(cut, "the first bytes of a character at its end, offset 7");
    }
}
