//! [`ApiError`] as `application/problem+json` (RFC 9457), derived from the same codes as gRPC.
//!
//! A crate such as `problem_details` has only the standard members. The extension members and the
//! mapping from [`ApiError`], which are most of this file, would remain.

use axum::body::Body;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use tonic::Code;

use crate::ApiError;
use crate::error::DOMAIN;

/// The content type of error responses.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// The body of an error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// The kind of error for programs, such as `urn:movieclassifier:error:EMPTY_TEXT`.
    pub r#type: String,
    /// The name of the HTTP status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The expectation, and the value found.
    pub detail: String,
    /// The reason in `UPPER_SNAKE_CASE`, as in `google.rpc.ErrorInfo`.
    pub reason: String,
    /// The invalid fields, if the request is invalid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// Milliseconds to wait before a retry, if a retry can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// One invalid field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldProblem {
    /// Its path in the request, such as `movies[3].overview`.
    pub field: String,
    /// The expectation, and the value found.
    pub description: String,
    /// The reason in `UPPER_SNAKE_CASE`.
    pub reason: String,
}

impl ApiError {
    /// Returns the HTTP status for this error's gRPC code
    /// (<https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>).
    #[must_use]
    pub fn http_status(&self) -> StatusCode {
        if let Self::Http { status, .. } = self {
            return *status;
        }
        match self.code() {
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            // A mismatch is within the server, so it is not a client error as in Google's table.
            Code::Unavailable | Code::FailedPrecondition => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Converts to the body of an HTTP response.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let status = self.http_status();
        let errors = match self {
            Self::Invalid(violations) => violations
                .iter()
                .map(|violation| FieldProblem {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                    reason: violation.reason.to_owned(),
                })
                .collect(),
            _ => Vec::new(),
        };
        Problem {
            r#type: format!("urn:{DOMAIN}:error:{}", self.reason()),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            reason: self.reason().to_owned(),
            errors,
            retry_after_ms: self.retry_after().map(|after| after.as_millis() as u64),
        }
    }

    /// Converts to an HTTP response.
    #[must_use]
    pub fn to_http(&self) -> Response<Body> {
        let problem = self.to_problem();
        let body = serde_json::to_vec(&problem).expect("strings and numbers are valid JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.http_status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
        if let Some(after) = self.retry_after() {
            // The header holds whole seconds, and 0 would mean an immediate retry.
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000).max(1) as u64));
        }
        if self.http_status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For protocols that write their errors differently; see `with_error_body`.
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl axum::response::IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        self.to_http()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_the_invalid_field() {
        let problem = ApiError::invalid("overview", "EMPTY_TEXT", "expected a text").to_problem();
        assert_eq!((problem.status, problem.title.as_str()), (400, "Bad Request"));
        assert_eq!(problem.r#type, "urn:movieclassifier:error:EMPTY_TEXT");
        assert_eq!(problem.errors[0].field, "overview");
    }

    #[test]
    fn says_when_to_retry_in_the_header_and_in_the_body() {
        let error =
            ApiError::Overloaded { message: "full".to_owned(), retry_after: Duration::from_millis(1200) };
        let response = error.to_http();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(error.to_problem().retry_after_ms, Some(1200));
    }

    #[test]
    fn a_mismatch_is_a_server_error() {
        assert_eq!(ApiError::Mismatch { reason: "X", message: String::new() }.http_status(), 503);
    }

    #[test]
    fn a_missing_model_is_not_found() {
        assert_eq!(ApiError::NotFound { reason: "X", message: String::new() }.http_status(), 404);
    }
}
