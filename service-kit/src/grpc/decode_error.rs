//! A message that is too large, or is no message, is the caller's mistake.
//!
//! tonic refuses it before any handler sees it, with `OUT_OF_RANGE` or `INTERNAL`; the contract says `INVALID_ARGUMENT`
//! with the details that every other wrong input gets, and an alert on `INTERNAL` is for defects of ours.

use tonic::body::Body;
use tonic::{Code, Status};

use crate::ApiError;

/// How prost begins to say that bytes are not the message that was expected; tonic passes it on as `INTERNAL`.
const NOT_DECODED: &str = "failed to decode Protobuf message";

/// What is to be said in place of `status`, if that is tonic's refusal of a message.
fn refusal(status: &Status) -> Option<ApiError> {
    let reason = match status.code() {
        Code::OutOfRange => "MESSAGE_TOO_LARGE",
        Code::Internal if status.message().starts_with(NOT_DECODED) => "MALFORMED_MESSAGE",
        _ => return None,
    };
    Some(ApiError::invalid("(message)", reason, status.message()))
}

/// Rewrites the answer to such a message where it is the only one; every other answer passes as it is.
pub(crate) fn map_malformed(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()).as_ref().and_then(refusal) {
        Some(error) => Status::from(error).into_http(),
        None => response,
    }
}

/// How a stream ends at an item that could not be read.
#[must_use]
pub fn malformed_item(status: Status) -> Status {
    refusal(&status).map_or(status, Status::from)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_types::StatusExt as _;

    use super::*;

    fn reason(status: &Status) -> Option<String> {
        status.get_details_error_info().map(|info| info.reason)
    }

    /// As tonic makes it of what prost says.
    fn of_prost(bytes: &[u8]) -> Status {
        Status::internal(HealthCheckRequest::decode(bytes).unwrap_err().to_string())
    }

    #[test]
    fn what_tonic_refuses_is_the_callers_mistake() {
        for (status, expected) in [
            (Status::out_of_range("too large"), "MESSAGE_TOO_LARGE"),
            (of_prost(b"\x0a\x01\xff"), "MALFORMED_MESSAGE"),
            (of_prost(b"\xff\xff"), "MALFORMED_MESSAGE"),
        ] {
            let item = malformed_item(status.clone());
            assert_eq!((item.code(), reason(&item).as_deref()), (Code::InvalidArgument, Some(expected)));
            let only = Status::from_header_map(map_malformed(status.into_http()).headers()).unwrap();
            assert_eq!((only.code(), reason(&only).as_deref()), (Code::InvalidArgument, Some(expected)));
        }
    }

    #[test]
    fn everything_else_passes_as_it_is() {
        for status in [Status::unavailable("full"), Status::internal("a defect")] {
            assert_eq!(malformed_item(status.clone()).code(), status.code());
            let code = status.code();
            assert_eq!(
                Status::from_header_map(map_malformed(status.into_http()).headers()).unwrap().code(),
                code
            );
        }
    }
}
