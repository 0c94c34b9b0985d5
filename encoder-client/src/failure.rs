//! A failed attempt.

use std::time::Duration;

use genre_model::EncoderIdentity;
use tonic::Status;

use crate::error::EncoderError;
use crate::status::{Class, classify, explained};

/// A failed attempt.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The call failed.
    Status(Box<Status>),
    /// The reply breaks the protocol.
    Malformed(String),
    /// The reply has another fingerprint than expected.
    OtherEncoder { expected: EncoderIdentity, found: String },
}

impl Failure {
    /// Returns the failure of a call that took longer than `limit`.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        Status::deadline_exceeded(format!("no answer in {limit:?}")).into()
    }

    /// The class of the failed call; `None` for a reply that fails verification.
    pub(crate) fn class(&self) -> Option<Class> {
        match self {
            Self::Status(status) => Some(classify(status)),
            Self::Malformed(_) | Self::OtherEncoder { .. } => None,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(explained(status)))
    }
}

impl From<Failure> for EncoderError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Status(status) => Self::Failed(status),
            Failure::Malformed(reason) => Self::Malformed(reason),
            Failure::OtherEncoder { expected, found } => Self::Replaced { expected, found },
        }
    }
}
