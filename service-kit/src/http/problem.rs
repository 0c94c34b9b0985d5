//! An [`ApiError`] as HTTP says it: `application/problem+json` (RFC 9457), out of the same codes as gRPC.

use axum::body::Body;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use tonic::Code;

use crate::ApiError;

/// The content type of every error.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// The body of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:movieclassifier:error:REASON`: the kind of error, for programs.
    pub r#type: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was expected and what was found.
    pub detail: String,
    /// In `UPPER_SNAKE_CASE`, as in `google.rpc.ErrorInfo`.
    pub reason: String,
    /// The wrong fields, where the request is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// Milliseconds after which it may be worth trying again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldProblem {
    /// Its path in the request, such as `movies[3].overview`.
    pub field: String,
    /// What was expected and what was found.
    pub description: String,
    /// In `UPPER_SNAKE_CASE`.
    pub reason: String,
}

impl ApiError {
    /// The HTTP status that stands for this error's gRPC code
    /// (<https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>).
    #[must_use]
    pub fn http_status(&self) -> StatusCode {
        if let Self::Http { status, .. } = self {
            return *status;
        }
        match self.code() {
            Code::InvalidArgument | Code::FailedPrecondition if self.is_callers_fault() => {
                StatusCode::BAD_REQUEST
            }
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            // The caller of HTTP knows no encoders: that ours is the wrong one is not the caller's fault.
            Code::Unavailable | Code::FailedPrecondition => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn is_callers_fault(&self) -> bool {
        matches!(self, Self::Invalid(_))
    }

    /// As the body of an HTTP answer.
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
            r#type: format!("urn:movieclassifier:error:{}", self.reason()),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            reason: self.reason().to_owned(),
            errors,
            retry_after_ms: self.retry_after().map(|after| after.as_millis() as u64),
        }
    }

    /// As an HTTP answer.
    #[must_use]
    pub fn to_http(&self) -> Response<Body> {
        let problem = self.to_problem();
        let body = serde_json::to_vec(&problem).expect("texts and numbers are JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.http_status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
        if let Some(after) = self.retry_after() {
            // Whole seconds are all that the header can say; a zero would mean at once.
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000).max(1) as u64));
        }
        if self.http_status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
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
    fn a_wrong_field_is_a_bad_request_that_names_it() {
        let problem = ApiError::invalid("overview", "EMPTY_TEXT", "expected a text").to_problem();
        assert_eq!((problem.status, problem.title.as_str()), (400, "Bad Request"));
        assert_eq!(problem.r#type, "urn:movieclassifier:error:EMPTY_TEXT");
        assert_eq!(problem.errors[0].field, "overview");
    }

    #[test]
    fn when_to_come_back_is_said_in_the_header_and_more_exactly_in_the_body() {
        let error =
            ApiError::Overloaded { message: "full".to_owned(), retry_after: Duration::from_millis(1200) };
        let response = error.to_http();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(error.to_problem().retry_after_ms, Some(1200));
    }

    #[test]
    fn the_wrong_encoder_is_not_the_callers_fault() {
        assert_eq!(ApiError::WrongEncoder { message: String::new() }.http_status(), 503);
    }
}
