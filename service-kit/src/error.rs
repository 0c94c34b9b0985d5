//! Every way in which a call can fail, defined once: its gRPC code, reason and details.
//!
//! Depends on no other module, because all of them return these errors. `tonic::Status` alone does
//! not fit: the same error also becomes an HTTP problem or the error of one item of a stream.

use std::collections::HashMap;
use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of our reasons in `google.rpc.ErrorInfo` and in problem types. It is part of the wire
/// contract. It is the only product name in this crate: `From<ApiError> for Status` has no argument
/// for it.
pub(crate) const DOMAIN: &str = "movieclassifier";

/// The metadata key by which a gRPC server says when to retry (gRFC A6).
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The reason of a call that the listener does not serve.
pub const NOT_SERVED: &str = "NOT_SERVED";
/// The key in the metadata of its `google.rpc.ErrorInfo` that lists the services of the listener.
pub const SERVICES: &str = "services";

/// The retry hint of a call that does not fit into the memory budget.
const NO_MEMORY_RETRY: Duration = Duration::from_secs(1);

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request is invalid, so a retry fails too: `INVALID_ARGUMENT` with `BadRequest`.
    #[error("{}", summary(.0))]
    Invalid(Vec<FieldViolation>),
    /// A limit is reached: `UNAVAILABLE` with `RetryInfo`.
    #[error("{message}")]
    Overloaded {
        /// Which limit is reached.
        message: String,
        /// How long to wait before a retry.
        retry_after: Duration,
    },
    /// Something that the call needs is unavailable: `UNAVAILABLE`.
    #[error("{message}")]
    Unavailable {
        /// In `UPPER_SNAKE_CASE`.
        reason: &'static str,
        /// What is unavailable.
        message: String,
    },
    /// The API key is missing or unknown: `UNAUTHENTICATED`.
    #[error("{message}")]
    Unauthenticated {
        /// What was expected.
        message: &'static str,
    },
    /// The rate limit of the API key is reached: `RESOURCE_EXHAUSTED` with `RetryInfo`.
    #[error("the rate limit of this API key is reached")]
    RateLimited {
        /// How long until the next call is admitted.
        retry_after: Duration,
    },
    /// An error that only HTTP knows, such as an unknown route; as a gRPC status,
    /// `INVALID_ARGUMENT`.
    #[error("{message}")]
    Http {
        /// The HTTP status, such as 404 or 415.
        status: http::StatusCode,
        /// In `UPPER_SNAKE_CASE`.
        reason: &'static str,
        /// The expectation, and the value found.
        message: String,
    },
    /// The request names something that is not there, such as a model: `NOT_FOUND`.
    #[error("{message}")]
    NotFound {
        /// In `UPPER_SNAKE_CASE`.
        reason: &'static str,
        /// What is there, and what the request names.
        message: String,
    },
    /// The listener does not serve this call: `UNIMPLEMENTED`.
    #[error("{message}")]
    NotServed {
        /// The call, and what the listener serves.
        message: String,
        /// The services of the listener's own, separated by commas.
        services: String,
    },
    /// The caller's deadline passed: `DEADLINE_EXCEEDED`.
    #[error("the deadline passed before the response was ready")]
    DeadlineExceeded,
    /// Parts of the system do not belong together, which no client can change:
    /// `FAILED_PRECONDITION`.
    #[error("{message}")]
    Mismatch {
        /// In `UPPER_SNAKE_CASE`.
        reason: &'static str,
        /// The expectation, and the value found.
        message: String,
    },
    /// A defect or a hardware failure: `INTERNAL`.
    #[error("{message}")]
    Internal {
        /// What went wrong, without details that belong in the log only.
        message: String,
    },
}

/// One invalid field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path in the request, such as `texts[3]`.
    pub field: String,
    /// The expectation, and the value found.
    pub description: String,
    /// In `UPPER_SNAKE_CASE`.
    pub reason: &'static str,
}

/// The error of one item of a stream that continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// A `google.rpc.Code`.
    pub code: i32,
    /// A description for people.
    pub message: String,
    /// The reason for programs, in `UPPER_SNAKE_CASE`.
    pub reason: String,
}

/// The most invalid fields that an error names. The status of a gRPC call travels in headers, of which
/// many clients accept no more than 8 or 16 KiB; a larger one ends the whole connection.
const MAX_LISTED: usize = 8;
/// The longest message of a gRPC status. The details repeat it.
const MAX_MESSAGE_BYTES: usize = 1 << 10;

fn summary(violations: &[FieldViolation]) -> String {
    let listed = violations.iter().take(MAX_LISTED);
    let mut fields: Vec<_> = listed.map(|v| format!("{}: {}", v.field, v.description)).collect();
    if violations.len() > MAX_LISTED {
        fields.push(format!("and {} more", violations.len() - MAX_LISTED));
    }
    fields.join("; ")
}

impl ApiError {
    /// Returns an error with one invalid field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, reason: &'static str, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation { field: field.into(), description: description.into(), reason }])
    }

    /// Returns the error of a call whose handler panicked. The cause is logged but not sent to the
    /// client.
    pub(crate) fn defect() -> Self {
        Self::Internal { message: "internal error; the service has logged its cause".to_owned() }
    }

    /// Returns the error of a call that does not fit into the memory budget.
    pub(crate) fn no_memory() -> Self {
        Self::Overloaded {
            message: "the memory for calls is exhausted".to_owned(),
            retry_after: NO_MEMORY_RETRY,
        }
    }

    /// Returns the error of a `Watch` call on a connection that has `max` already.
    pub(crate) fn too_many_watches(max: usize) -> Self {
        Self::Overloaded {
            message: format!("expected at most {max} Watch calls on a connection"),
            retry_after: NO_MEMORY_RETRY,
        }
    }

    /// Returns the gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::Http { .. } => Code::InvalidArgument,
            Self::Unauthenticated { .. } => Code::Unauthenticated,
            Self::RateLimited { .. } => Code::ResourceExhausted,
            Self::Overloaded { .. } | Self::Unavailable { .. } => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Mismatch { .. } => Code::FailedPrecondition,
            Self::NotFound { .. } => Code::NotFound,
            Self::NotServed { .. } => Code::Unimplemented,
            Self::Internal { .. } => Code::Internal,
        }
    }

    /// Returns the reason in `google.rpc.ErrorInfo`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(violations) => violations.first().map_or("INVALID_INPUT", |v| v.reason),
            Self::Overloaded { .. } => "QUEUE_FULL",
            Self::Unavailable { reason, .. }
            | Self::Mismatch { reason, .. }
            | Self::Http { reason, .. }
            | Self::NotFound { reason, .. } => reason,
            Self::Unauthenticated { .. } => "UNAUTHENTICATED",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotServed { .. } => NOT_SERVED,
            Self::Internal { .. } => "INTERNAL",
        }
    }

    /// Returns how long to wait before a retry, if a retry can help.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } | Self::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Converts to the error of one item of a stream.
    #[must_use]
    pub fn to_item(&self) -> ItemError {
        ItemError { code: self.code().into(), message: self.to_string(), reason: self.reason().to_owned() }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let mut metadata = HashMap::new();
        if let ApiError::NotServed { services, .. } = &error {
            metadata.insert(SERVICES.to_owned(), services.clone());
        }
        let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, metadata);
        if let ApiError::Invalid(violations) = &error {
            for violation in violations.iter().take(MAX_LISTED) {
                details.add_bad_request_violation(&violation.field, &violation.description);
            }
        }
        let mut metadata = MetadataMap::new();
        if let Some(after) = error.retry_after() {
            details.set_retry_info(Some(after));
            // Clients that retry by gRPC's own policy read this instead (gRFC A6).
            metadata.insert(PUSHBACK, MetadataValue::from(after.as_millis() as u64));
        }
        let mut message = error.to_string();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        Status::with_error_details_and_metadata(error.code(), message, details, metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_invalid_field_in_the_details() {
        let status = Status::from(ApiError::invalid("texts[3]", "EMPTY_TEXT", "must not be blank"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "texts[3]");
        assert_eq!(details.error_info().unwrap().reason, "EMPTY_TEXT");
    }

    #[test]
    fn a_status_of_many_fields_fits_the_headers_of_every_client() {
        let violation = |index| FieldViolation {
            field: format!("movies[{index}].overview"),
            reason: "EMPTY_TEXT",
            description: "expected a text that is not blank, found \"\"".to_owned(),
        };
        let status = Status::from(ApiError::Invalid((0..256).map(violation).collect()));
        assert!(status.message().ends_with("; and 248 more"), "{}", status.message());
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 8 << 10, "{bytes}");
        let long = ApiError::Internal { message: "é".repeat(10_000) };
        assert!(Status::from(long).message().len() <= MAX_MESSAGE_BYTES);
    }

    #[test]
    fn overload_says_when_to_retry() {
        let retry_after = Duration::from_millis(250);
        let status = Status::from(ApiError::Overloaded { message: "full".to_owned(), retry_after });
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(retry_after));
        assert_eq!(status.metadata().get(PUSHBACK).unwrap(), "250");
    }
}
