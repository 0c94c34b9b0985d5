//! How a call may end, and what of it is documented.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Codes and reasons that the services' contract knows, for requests that are in order.
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
    /// A service said so, in a documented way.
    Told(Code, &'static str),
    /// The caller's own timer.
    OwnTimer,
    /// The connection broke, or could not be made.
    Connection,
}

impl Failure {
    /// What a status means to its caller; an error where it is none that is documented.
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
            return Err("QUEUE_FULL without a time to come back".to_owned());
        }
        Self::told(status.code(), &info.reason).ok_or_else(|| format!("{:?} {}", status.code(), info.reason))
    }

    /// The same of an item of a stream.
    pub fn of_item(code: i32, reason: &str) -> Result<Self, String> {
        Self::told(Code::from(code), reason).ok_or_else(|| format!("{:?} {reason}", Code::from(code)))
    }

    fn told(code: Code, reason: &str) -> Option<Self> {
        DOCUMENTED
            .iter()
            .find(|known| **known == (code, reason))
            .map(|(code, reason)| Self::Told(*code, reason))
    }

    /// For counts.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Told(_, reason) => reason.to_owned(),
            Self::OwnTimer => "OWN_TIMER".to_owned(),
            Self::Connection => "CONNECTION".to_owned(),
        }
    }
}

/// How long after its deadline a caller looks at its own timer: tonic's fires on whole milliseconds.
pub const TOLERANCE: Duration = Duration::from_millis(5);
/// How long anything may take that has no deadline: until its connection is found dead (13 s), or the classifier's own time
/// for a call has passed and been told over a slow link.
pub const WITHOUT_DEADLINE: Duration = Duration::from_secs(20);
