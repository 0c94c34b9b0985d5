//! The ways in which a call may end, and the documented failures.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The codes and reasons that the services document for valid requests.
const DOCUMENTED: [(Code, &str); 6] = [
    (Code::Unavailable, "QUEUE_FULL"),
    (Code::Unavailable, "ENCODER_UNREACHABLE"),
    (Code::Unavailable, "SHUTTING_DOWN"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::FailedPrecondition, "WRONG_ENCODER"),
    (Code::Internal, "INTERNAL"),
];

/// How a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A documented failure, reported by a service.
    Documented(Code, &'static str),
    /// The client's own timer.
    OwnTimer,
    /// The connection broke or could not be opened.
    Connection,
}

impl Failure {
    /// Classifies a status; an error describes an undocumented one.
    pub fn of(status: &Status) -> Result<Self, String> {
        let mut causes = std::iter::successors(status.source(), |cause| Error::source(*cause));
        if causes.any(<dyn Error>::is::<tonic::TimeoutExpired>) {
            return Ok(Self::OwnTimer);
        }
        if status.source().is_some() {
            return Ok(Self::Connection);
        }
        let Some(info) = status.get_details_error_info() else {
            return Err(format!("{:?} without a reason: {}", status.code(), status.message()));
        };
        if info.reason == "QUEUE_FULL" && status.get_details_retry_info().is_none() {
            return Err("QUEUE_FULL without a time to retry".to_owned());
        }
        Self::documented(status.code(), &info.reason)
            .ok_or_else(|| format!("{:?} {}", status.code(), info.reason))
    }

    /// Classifies the error of one item of a stream.
    pub fn of_item(code: i32, reason: &str) -> Result<Self, String> {
        Self::documented(Code::from(code), reason).ok_or_else(|| format!("{:?} {reason}", Code::from(code)))
    }

    fn documented(code: Code, reason: &str) -> Option<Self> {
        DOCUMENTED
            .iter()
            .find(|known| **known == (code, reason))
            .map(|(code, reason)| Self::Documented(*code, reason))
    }

    /// The name in counts and events.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Documented(_, reason) => reason.to_owned(),
            Self::OwnTimer => "OWN_TIMER".to_owned(),
            Self::Connection => "CONNECTION".to_owned(),
        }
    }
}

/// How long after the deadline a client gives up: tonic's timer fires on whole milliseconds.
pub const TOLERANCE: Duration = Duration::from_millis(5);
/// Time limit of a call without a deadline: until a dead connection is detected (13 s), or until
/// the classifier's own time limit has passed and its response has crossed a slow link.
pub const WITHOUT_DEADLINE: Duration = Duration::from_secs(20);
