//! The errors of a call, and the API errors that they become.

use std::time::Duration;

use genre_model::EncoderIdentity;
use service_kit::{ApiError, InvalidTarget};
use tonic::{Code, Status};

use crate::status::{self, Pushback};

/// The reason of an encoder other than the one that the model was fitted on.
const WRONG_ENCODER: &str = "WRONG_ENCODER";

/// Why texts could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The encoder's address is not a URL.
    #[error("encoder: {0}")]
    Url(#[from] InvalidTarget),
    /// The deadline of an online call passed.
    #[error("encoder: the deadline passed before the vectors arrived")]
    DeadlineExceeded,
    /// No replica is known, or none can be reached.
    #[error("no encoder answers: {0}")]
    Unreachable(String),
    /// No bulk call has succeeded for longer than the policy's patience.
    #[error("encoder: no answer for {} s: {}: {}", .waited.as_secs(), .status.code(), .status.message())]
    Unavailable {
        /// Time since the last success, or since the call began if that is later.
        waited: Duration,
        /// The last failure.
        status: Box<Status>,
    },
    /// The encoder failed the call, and the policy allows no further attempt.
    #[error("encoder: {}: {}", .0.code(), .0.message())]
    Failed(Box<Status>),
    /// A reply breaks the protocol.
    #[error("encoder: {0}")]
    Malformed(String),
    /// Replicas of one job run different encoders.
    #[error("encoders: expected replicas of one encoder, found {expected} and {found}")]
    Mixed {
        /// The encoder of the first replica.
        expected: String,
        /// The encoder of another replica.
        found: String,
    },
    /// A reply comes from another encoder than the expected one.
    #[error("encoder: expected vectors of {expected}, found vectors of {found:?}; the encoder was replaced")]
    Replaced {
        /// The expected encoder.
        expected: EncoderIdentity,
        /// The fingerprint in the reply.
        found: String,
    },
    /// Every replica that answers runs another encoder than the expected one.
    #[error("the model expects encoder {expected}, found {found}")]
    WrongEncoder {
        /// The expected encoder.
        expected: EncoderIdentity,
        /// One that was found.
        found: String,
    },
    /// The expected encoder makes vectors of another dimension than the model takes.
    #[error("the model expects vectors of {expected} floats, those of encoder {encoder} have {found}")]
    WrongDimension {
        /// The encoder.
        encoder: EncoderIdentity,
        /// The dimension of the model.
        expected: usize,
        /// The dimension of the encoder.
        found: usize,
    },
}

impl EncoderError {
    /// The error of a bulk call that gives up, `waited` after the last success of the client.
    pub(crate) fn after(self, waited: Duration) -> Self {
        match self {
            Self::Failed(status) => Self::Unavailable { waited, status },
            other => other,
        }
    }
}

/// Names an encoder of which only the fingerprint is known.
pub(crate) fn name_of_fingerprint(fingerprint: &str) -> String {
    let short: String = fingerprint.chars().take(12).collect();
    format!("an encoder ({short})")
}

impl From<EncoderError> for ApiError {
    fn from(error: EncoderError) -> Self {
        let message = error.to_string();
        match error {
            EncoderError::DeadlineExceeded => Self::DeadlineExceeded,
            EncoderError::Unreachable(_) => unreachable_encoder(message),
            EncoderError::Failed(status) | EncoderError::Unavailable { status, .. } => of_status(&status),
            EncoderError::Replaced { expected, found } => {
                EncoderError::WrongEncoder { expected, found: name_of_fingerprint(&found) }.into()
            }
            EncoderError::WrongEncoder { .. }
            | EncoderError::WrongDimension { .. }
            | EncoderError::Mixed { .. } => Self::Mismatch { reason: WRONG_ENCODER, message },
            EncoderError::Url(_) | EncoderError::Malformed(_) => Self::Internal { message },
        }
    }
}

fn unreachable_encoder(message: String) -> ApiError {
    ApiError::Unavailable { reason: "ENCODER_UNREACHABLE", message }
}

/// Returns the error that a caller of a service gets for a failed call.
fn of_status(failed: &Status) -> ApiError {
    if status::is_own_timer(failed) {
        return ApiError::DeadlineExceeded;
    }
    let message = format!("encoder: {}", failed.message());
    match failed.code() {
        Code::Unavailable => match status::pushback(failed) {
            Pushback::After(retry_after) => ApiError::Overloaded { message, retry_after },
            Pushback::Never => ApiError::Overloaded { message, retry_after: Duration::from_secs(1) },
            Pushback::None => unreachable_encoder(format!("no encoder answers: {}", failed.message())),
        },
        _ if status::is_broken_connection(failed) => {
            unreachable_encoder(format!("no encoder answers: {}", failed.message()))
        }
        // This service has used up its own quota at the encoder, which says nothing about the
        // quota of its caller.
        Code::ResourceExhausted => match status::pushback(failed) {
            Pushback::After(retry_after) => ApiError::Overloaded { message, retry_after },
            Pushback::None | Pushback::Never => ApiError::Internal { message },
        },
        // Something else answers at the encoder's address.
        Code::Unimplemented => unreachable_encoder(format!("no encoder answers: {}", failed.message())),
        Code::DeadlineExceeded | Code::Cancelled => ApiError::DeadlineExceeded,
        // The encoder's limits are tighter than the caller's.
        Code::InvalidArgument => ApiError::invalid("texts", "REFUSED_BY_ENCODER", failed.message()),
        code => ApiError::Internal { message: format!("encoder: {code:?}: {}", failed.message()) },
    }
}

#[cfg(test)]
mod tests {
    use genre_model::Fingerprint;
    use service_kit::PUSHBACK;

    use super::*;

    fn api_error(status: Status) -> ApiError {
        EncoderError::Failed(Box::new(status)).into()
    }

    #[test]
    fn distinguishes_an_overloaded_encoder_from_an_unreachable_one() {
        let retry_after = Duration::from_millis(70);
        let overloaded = ApiError::Overloaded { message: "full".to_owned(), retry_after };
        let found = api_error(overloaded.into());
        assert_eq!(found, ApiError::Overloaded { message: "encoder: full".to_owned(), retry_after });
        assert_eq!(api_error(Status::unavailable("tcp connect error")).reason(), "ENCODER_UNREACHABLE");
        let mut never = Status::unavailable("full");
        never.metadata_mut().insert(PUSHBACK, "-1".parse().unwrap());
        assert_eq!(api_error(never).reason(), "QUEUE_FULL");
    }

    #[test]
    fn reports_a_rejected_text_as_an_invalid_argument() {
        let status = Status::from(ApiError::invalid("texts[0]", "TEXT_TOO_LONG", "expected at most 9 bytes"));
        assert_eq!(api_error(status).code(), Code::InvalidArgument);
    }

    #[test]
    fn names_both_encoders_when_a_reply_has_another_fingerprint() {
        let fingerprint = Fingerprint::parse("ab".repeat(32)).unwrap();
        let expected = EncoderIdentity { id: "tiny".to_owned(), version: "1".to_owned(), fingerprint };
        let error = ApiError::from(EncoderError::Replaced { expected, found: "cd".repeat(32) });
        let message = "the model expects encoder tiny 1 (abababababab), found an encoder (cdcdcdcdcdcd)";
        assert_eq!(error, ApiError::Mismatch { reason: WRONG_ENCODER, message: message.to_owned() });
    }
}
