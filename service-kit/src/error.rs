//! Every way in which a call can fail, defined once: its gRPC code, its reason, its details.

use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain in `google.rpc.ErrorInfo`: whose reasons these are.
const DOMAIN: &str = "movieclassifier";

/// How gRPC says when to try again (gRFC A6).
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request is wrong, and will be wrong again: `INVALID_ARGUMENT` with `BadRequest`.
    #[error("{}", summary(.0))]
    Invalid(Vec<FieldViolation>),
    /// There is no room for the request now: `UNAVAILABLE` with `RetryInfo`.
    #[error("{message}")]
    Overloaded {
        /// What is full.
        message: String,
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// Something that the call needs is not there now: `UNAVAILABLE`.
    #[error("{message}")]
    Unavailable {
        /// In `UPPER_SNAKE_CASE`.
        reason: &'static str,
        /// What is missing.
        message: String,
    },
    /// The caller has not said who it is: `UNAUTHENTICATED`.
    #[error("{message}")]
    Unauthenticated {
        /// What was expected.
        message: &'static str,
    },
    /// The caller has called too often: `RESOURCE_EXHAUSTED` with `RetryInfo`.
    #[error("too many calls with this API key")]
    RateLimited {
        /// When the next call will be taken.
        retry_after: Duration,
    },
    /// A request that is no call at all, as only HTTP knows them: `INVALID_ARGUMENT` where gRPC asks.
    #[error("{message}")]
    Http {
        /// Such as 404 or 415.
        status: http::StatusCode,
        /// In `UPPER_SNAKE_CASE`.
        reason: &'static str,
        /// What was expected and what was found.
        message: String,
    },
    /// The caller's deadline passed: `DEADLINE_EXCEEDED`.
    #[error("the deadline passed before the answer was ready")]
    DeadlineExceeded,
    /// Two parts do not belong together: `FAILED_PRECONDITION`.
    #[error("{message}")]
    WrongEncoder {
        /// What was expected and what was found.
        message: String,
    },
    /// A defect or a broken machine: `INTERNAL`.
    #[error("{message}")]
    Internal {
        /// What went wrong, without anything that only the log should know.
        message: String,
    },
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path in the request, such as `texts[3]`.
    pub field: String,
    /// What was expected and what was found.
    pub description: String,
    /// In `UPPER_SNAKE_CASE`.
    pub reason: &'static str,
}

/// What is said of one item of a stream that failed while the stream goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// A `google.rpc.Code`.
    pub code: i32,
    /// For a person.
    pub message: String,
    /// For a program.
    pub reason: String,
}

fn summary(violations: &[FieldViolation]) -> String {
    let parts: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    parts.join("; ")
}

impl ApiError {
    /// One wrong field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, reason: &'static str, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation { field: field.into(), description: description.into(), reason }])
    }

    /// The error of a call that met a defect. The cause is logged; it would not help the caller.
    pub(crate) fn defect() -> Self {
        Self::Internal { message: "internal error; the service has logged its cause".to_owned() }
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::Http { .. } => Code::InvalidArgument,
            Self::Unauthenticated { .. } => Code::Unauthenticated,
            Self::RateLimited { .. } => Code::ResourceExhausted,
            Self::Overloaded { .. } | Self::Unavailable { .. } => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::WrongEncoder { .. } => Code::FailedPrecondition,
            Self::Internal { .. } => Code::Internal,
        }
    }

    /// The reason in `google.rpc.ErrorInfo`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(violations) => violations.first().map_or("INVALID_INPUT", |v| v.reason),
            Self::Overloaded { .. } => "QUEUE_FULL",
            Self::Unavailable { reason, .. } | Self::Http { reason, .. } => reason,
            Self::Unauthenticated { .. } => "UNAUTHENTICATED",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::WrongEncoder { .. } => "WRONG_ENCODER",
            Self::Internal { .. } => "INTERNAL",
        }
    }

    /// When it may be worth trying again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } | Self::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// As the error of one item of a stream.
    #[must_use]
    pub fn to_item(&self) -> ItemError {
        ItemError { code: self.code().into(), message: self.to_string(), reason: self.reason().to_owned() }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, []);
        if let ApiError::Invalid(violations) = &error {
            for violation in violations {
                details.add_bad_request_violation(&violation.field, &violation.description);
            }
        }
        let mut metadata = MetadataMap::new();
        if let Some(after) = error.retry_after() {
            details.set_retry_info(Some(after));
            // The same for clients that retry by themselves (gRFC A6).
            metadata.insert(PUSHBACK, MetadataValue::from(after.as_millis() as u64));
        }
        Status::with_error_details_and_metadata(error.code(), error.to_string(), details, metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named_in_the_details() {
        let status = Status::from(ApiError::invalid("texts[3]", "EMPTY_TEXT", "must not be blank"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "texts[3]");
        assert_eq!(details.error_info().unwrap().reason, "EMPTY_TEXT");
    }

    #[test]
    fn an_overloaded_service_says_when_to_come_back() {
        let retry_after = Duration::from_millis(250);
        let status = Status::from(ApiError::Overloaded { message: "full".to_owned(), retry_after });
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(retry_after));
        assert_eq!(status.metadata().get(PUSHBACK).unwrap(), "250");
    }
}
