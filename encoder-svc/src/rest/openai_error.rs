//! Errors as OpenAI writes them
//! (<https://platform.openai.com/docs/guides/error-codes>). The status and `Retry-After` are those of
//! every other HTTP error.

use serde::Serialize;
use service_kit::ApiError;
use utoipa::ToSchema;

/// The body of an error response.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct OpenAiError {
    error: Details,
}

/// What is wrong.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = OpenAiErrorDetails)]
struct Details {
    /// The expectation, and the value found.
    message: String,
    r#type: &'static str,
    /// The field of the request that is wrong, if there is one.
    param: Option<String>,
    /// The reason for programs, in `snake_case`.
    code: String,
}

impl OpenAiError {
    pub(super) fn of(error: &ApiError) -> Self {
        let r#type = match error {
            ApiError::RateLimited { .. } => "rate_limit_error",
            _ if error.http_status().is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let param = match error {
            ApiError::Invalid(violations) => violations.first().map(|violation| violation.field.clone()),
            ApiError::Http { reason: MODEL_NOT_FOUND, .. } => Some("model".to_owned()),
            _ => None,
        };
        let code = match error {
            ApiError::Unauthenticated { .. } => "invalid_api_key".to_owned(),
            ApiError::RateLimited { .. } => "rate_limit_exceeded".to_owned(),
            _ => error.reason().to_lowercase(),
        };
        let param = param.filter(|field| !field.starts_with('('));
        Self { error: Details { message: error.to_string(), r#type, param, code } }
    }
}

/// The reason of a request for another model than the one that is served.
pub(super) const MODEL_NOT_FOUND: &str = "MODEL_NOT_FOUND";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn details(error: &ApiError) -> (&'static str, Option<String>, String) {
        let details = OpenAiError::of(error).error;
        assert_eq!(details.message, error.to_string());
        (details.r#type, details.param, details.code)
    }

    #[test]
    fn names_the_kind_the_field_and_the_code_that_clients_know() {
        let invalid = |field: &str| ApiError::invalid(field, "EMPTY_TEXT", "blank");
        let kind = "invalid_request_error";
        let code = "empty_text".to_owned();
        assert_eq!(details(&invalid("input[3]")), (kind, Some("input[3]".to_owned()), code.clone()));
        assert_eq!(details(&invalid("(body)")), (kind, None, code));
        let key = ApiError::Unauthenticated { message: "none" };
        assert_eq!(details(&key), (kind, None, "invalid_api_key".to_owned()));
        let limited = ApiError::RateLimited { retry_after: Duration::ZERO };
        assert_eq!(details(&limited), ("rate_limit_error", None, "rate_limit_exceeded".to_owned()));
        assert_eq!(
            details(&ApiError::DeadlineExceeded),
            ("server_error", None, "deadline_exceeded".to_owned())
        );
    }
}
