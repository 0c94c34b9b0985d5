//! Messages that are too large or malformed.
//!
//! tonic rejects them before a handler sees them, with `OUT_OF_RANGE` or `INTERNAL`. Our contract
//! is `INVALID_ARGUMENT`, with the same details as for any other invalid input. `INTERNAL` raises
//! an alert, so it is reserved for our own defects. tonic has no hook for its rejections, so this
//! module recognises them by code and message.

use tonic::body::Body;
use tonic::{Code, Status};

use crate::ApiError;

/// The beginnings of errors of clients that tonic reports as `INTERNAL`: prost's decode error;
/// tonic-web's error of a body, such as base64 that is none; and tonic's own errors of a unary call
/// without a message, of a message that is cut off, and of a compression flag that does not exist.
/// A message that is compressed without a declared encoding is `INTERNAL` by gRPC's specification.
const MALFORMED: [&str; 5] = [
    "failed to decode Protobuf message",
    "tonic-web: ",
    "Missing request message.",
    "Unexpected EOF decoding stream.",
    "protocol error: received message with invalid compression flag: ",
];

/// Returns the error that replaces `status`, if tonic rejected a message with it.
fn rejection(status: &Status) -> Option<ApiError> {
    let reason = match status.code() {
        Code::OutOfRange => "MESSAGE_TOO_LARGE",
        Code::Internal if MALFORMED.iter().any(|begin| status.message().starts_with(begin)) => {
            "MALFORMED_MESSAGE"
        }
        _ => return None,
    };
    Some(ApiError::invalid("(message)", reason, status.message()))
}

/// Replaces the response to a malformed request; leaves any other response as it is.
pub(crate) fn map_malformed(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()).as_ref().and_then(rejection) {
        Some(error) => Status::from(error).into_http(),
        None => response,
    }
}

/// Replaces the status of a request stream that ends with a malformed item.
#[must_use]
pub fn malformed_item(status: Status) -> Status {
    rejection(&status).map_or(status, Status::from)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_server::HealthServer;
    use tonic_health::server::{HealthReporter, HealthService};
    use tonic_types::StatusExt as _;
    use tower::ServiceExt as _;

    use super::*;

    fn reason(status: &Status) -> Option<String> {
        status.get_details_error_info().map(|info| info.reason)
    }

    /// The status that tonic builds from prost's error.
    fn decode_status(bytes: &[u8]) -> Status {
        Status::internal(HealthCheckRequest::decode(bytes).unwrap_err().to_string())
    }

    #[test]
    fn oversized_and_malformed_messages_are_invalid_arguments() {
        for (status, expected) in [
            (Status::out_of_range("too large"), "MESSAGE_TOO_LARGE"),
            (decode_status(b"\x0a\x01\xff"), "MALFORMED_MESSAGE"),
            (decode_status(b"\xff\xff"), "MALFORMED_MESSAGE"),
        ] {
            let item = malformed_item(status.clone());
            assert_eq!((item.code(), reason(&item).as_deref()), (Code::InvalidArgument, Some(expected)));
            let only = Status::from_header_map(map_malformed(status.into_http()).headers()).unwrap();
            assert_eq!((only.code(), reason(&only).as_deref()), (Code::InvalidArgument, Some(expected)));
        }
    }

    /// The response of tonic to the body of a unary call.
    async fn respond(body: &'static [u8]) -> http::Response<Body> {
        let health = HealthService::from_health_reporter(HealthReporter::new());
        let request = http::Request::post("/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .body(Body::new(axum::body::Body::from(body)))
            .unwrap();
        HealthServer::new(health).oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn errors_of_clients_that_tonic_calls_internal_are_invalid_arguments() {
        for body in [b"".as_slice(), b"\0\0\0\0\x05abc", b"\x02\0\0\0\0", b"\0\0\0\0\x02\xff\xff"] {
            let response = respond(body).await;
            let by_tonic = Status::from_header_map(response.headers()).unwrap();
            assert_eq!(by_tonic.code(), Code::Internal, "{by_tonic:?}");
            let status = Status::from_header_map(map_malformed(response).headers()).unwrap();
            let expected = (Code::InvalidArgument, Some("MALFORMED_MESSAGE"));
            assert_eq!((status.code(), reason(&status).as_deref()), expected, "{by_tonic:?}");
        }
        let compressed = map_malformed(respond(b"\x01\0\0\0\0").await);
        assert_eq!(Status::from_header_map(compressed.headers()).unwrap().code(), Code::Internal);
    }

    #[test]
    fn leaves_other_errors_as_they_are() {
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
