//! A message over the size limit is the caller's mistake.
//!
//! tonic refuses it before any handler sees it, with `OUT_OF_RANGE`; the contract says `INVALID_ARGUMENT` with the
//! details that every other oversized input gets.

use tonic::body::Body;
use tonic::{Code, Status};

use crate::ApiError;

/// Rewrites the answer to an oversized message; every other answer passes as it is.
pub(crate) fn map_oversized(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => {
            Status::from(ApiError::invalid("(message)", "MESSAGE_TOO_LARGE", status.message())).into_http()
        }
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_out_of_range_is_rewritten() {
        let code = |status: Status| {
            Status::from_header_map(map_oversized(status.into_http()).headers()).unwrap().code()
        };
        assert_eq!(code(Status::out_of_range("too large")), Code::InvalidArgument);
        assert_eq!(code(Status::unavailable("full")), Code::Unavailable);
    }
}
