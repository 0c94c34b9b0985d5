//! Classifies a gRPC status: its meaning for the replica and for further attempts.
//!
//! tower's retry layer leaves this classification to its user, and none of the gRPC crates that we
//! use has one.

use std::error::Error;
use std::time::Duration;

use proto::classifier::v1::classifier_service_server;
use service_kit::{NOT_SERVED, PUSHBACK, SERVICES};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The meaning of a status for further attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The replica asks for a pause of this length.
    Busy(Duration),
    /// The replica cannot be reached, or the connection broke.
    Unreachable,
    /// The call ran out of time.
    OutOfTime,
    /// The replica rejects the call; every replica would.
    Rejected,
    /// Any other failure, which another replica may not have.
    Defect,
}

/// Classifies the status of a failed call.
pub(crate) fn classify(status: &Status) -> Class {
    if is_own_timer(status) {
        return Class::OutOfTime;
    }
    match (status.code(), pushback(status)) {
        (Code::Unavailable | Code::ResourceExhausted, Pushback::After(pause)) => Class::Busy(pause),
        (Code::Unavailable, Pushback::Never) => Class::Rejected,
        (Code::Unavailable | Code::Aborted, _) => Class::Unreachable,
        _ if is_broken_connection(status) => Class::Unreachable,
        (Code::DeadlineExceeded, _) => Class::OutOfTime,
        (Code::InvalidArgument | Code::Cancelled, _) => Class::Rejected,
        _ => Class::Defect,
    }
}

/// The pause that a server asks for.
pub(crate) enum Pushback {
    None,
    After(Duration),
    Never,
}

/// Reads the pause from `grpc-retry-pushback-ms` (gRFC A6), or else from `google.rpc.RetryInfo`.
pub(crate) fn pushback(status: &Status) -> Pushback {
    if let Some(value) = status.metadata().get(PUSHBACK) {
        // gRFC A6: a negative or malformed value means never.
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        return millis.map_or(Pushback::Never, |millis| Pushback::After(Duration::from_millis(millis)));
    }
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    delay.map_or(Pushback::None, Pushback::After)
}

/// Whether a timer of this process ended the call. tonic reports that like a failed connection.
pub(crate) fn is_own_timer(status: &Status) -> bool {
    let mut causes = std::iter::successors(status.source(), |cause| Error::source(*cause));
    causes.any(<dyn Error>::is::<tonic::TimeoutExpired>)
}

/// Whether the connection broke during the call. tonic reports that with various codes, but always
/// with a source; a status that a server sent has none.
pub(crate) fn has_transport_cause(status: &Status) -> bool {
    status.source().is_some()
}

/// Whether the call failed with its connection or by a reset, in the codes that a server may also send
/// for a reason of its own. `ResourceExhausted` is a reset by a server whose memory for clients is
/// exhausted.
pub(crate) fn is_broken_connection(status: &Status) -> bool {
    let may_be =
        matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled | Code::ResourceExhausted);
    may_be && has_transport_cause(status)
}

/// Gives a status without words the meaning of its code, and says what answered in place of an
/// encoder.
pub(crate) fn explained(status: Status) -> Status {
    let message = match status.code() {
        // The failure of a connection has words and a source, which a copy would lose.
        _ if has_transport_cause(&status) => return status,
        Code::Unimplemented => not_an_encoder(&status),
        code if status.message().is_empty() => code.description().to_owned(),
        _ => return status,
    };
    let (details, metadata) = (status.details().to_vec().into(), status.metadata().clone());
    Status::with_details_and_metadata(status.code(), message, details, metadata)
}

fn not_an_encoder(status: &Status) -> String {
    let not_served = status.get_details_error_info().filter(|info| info.reason == NOT_SERVED);
    let services = not_served.and_then(|mut info| info.metadata.remove(SERVICES)).unwrap_or_default();
    if services.split(',').any(|service| service == classifier_service_server::SERVICE_NAME) {
        return "that is a classifier, not an encoder".to_owned();
    }
    match status.message() {
        "" => "that is not an encoder: it serves no such method".to_owned(),
        message => format!("that is not an encoder: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ApiError;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn distinguishes_a_busy_replica_from_an_unreachable_one() {
        let retry_after = Duration::from_millis(70);
        let overloaded = ApiError::Overloaded { message: "full".to_owned(), retry_after };
        assert_eq!(classify(&overloaded.into()), Class::Busy(retry_after));
        assert_eq!(classify(&Status::unavailable("tcp connect error")), Class::Unreachable);
    }

    #[test]
    fn says_what_answers_in_place_of_an_encoder() {
        let not_served = |services: &str| ApiError::NotServed {
            message: "/a.B/C is not served here".to_owned(),
            services: services.to_owned(),
        };
        let message = |status| explained(status).message().to_owned();
        let classifier = not_served(classifier_service_server::SERVICE_NAME);
        assert_eq!(message(classifier.into()), "that is a classifier, not an encoder");
        let other = message(not_served("x.Y").into());
        assert_eq!(other, "that is not an encoder: /a.B/C is not served here");
        assert!(message(Status::unimplemented("")).starts_with("that is not an encoder"));
    }

    #[test]
    fn a_status_without_words_gets_those_of_its_code_and_keeps_its_pause() {
        let mut status = Status::unavailable("");
        status.metadata_mut().insert(PUSHBACK, "70".parse().unwrap());
        let status = explained(status);
        assert_eq!(status.message(), Code::Unavailable.description());
        assert_eq!(classify(&status), Class::Busy(Duration::from_millis(70)));
    }

    #[test]
    fn treats_a_negative_pushback_as_never() {
        let mut status = Status::unavailable("full");
        status.metadata_mut().insert(PUSHBACK, "-1".parse().unwrap());
        assert_eq!(classify(&status), Class::Rejected);
    }

    #[test]
    fn treats_an_exhausted_quota_as_busy_only_with_a_pause() {
        assert_eq!(classify(&Status::resource_exhausted("quota")), Class::Defect);
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let status = Status::with_error_details(Code::ResourceExhausted, "quota", details);
        assert_eq!(classify(&status), Class::Busy(Duration::from_secs(1)));
    }

    #[test]
    fn distinguishes_a_server_failure_from_a_broken_connection() {
        assert_eq!(classify(&Status::internal("a defect")), Class::Defect);
        let mut broken = Status::internal("h2 protocol error");
        broken.set_source(std::sync::Arc::new(std::io::Error::other("reset")));
        assert_eq!(classify(&broken), Class::Unreachable);
        let mut evicted = Status::resource_exhausted("h2 protocol error: enhance your calm");
        evicted.set_source(std::sync::Arc::new(std::io::Error::other("reset")));
        assert_eq!(classify(&evicted), Class::Unreachable);
        assert_eq!(classify(&Status::invalid_argument("blank")), Class::Rejected);
    }
}
