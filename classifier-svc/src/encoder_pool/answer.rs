//! What an encoder answered: vectors of the right encoder and shape, or why not.

use std::time::Duration;

use genre_model::EncoderIdentity;
use ndarray::Array2;
use proto::encoder::v1::{EncodeResponse, GetEncoderResponse};
use service_kit::{ApiError, PUSHBACK};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Vectors of a batch of texts, in their order.
#[derive(Debug)]
pub struct Vectors {
    /// Shape `[texts, dimension]`.
    pub values: Array2<f32>,
    /// For each text whether its end was cut off.
    pub truncated: Vec<bool>,
}

/// A failed attempt, and whether another one may be worth making.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The request itself is wrong, or its time is over: no replica will do better.
    Final(ApiError),
    /// This replica cannot be reached or broke: another may do better.
    Replica(ApiError),
    /// This replica has no room before so long.
    Full(ApiError, Duration),
    /// This replica is another encoder.
    Wrong(ApiError, String),
}

impl Failure {
    pub(super) fn into_error(self) -> ApiError {
        match self {
            Self::Final(error) | Self::Replica(error) | Self::Full(error, _) | Self::Wrong(error, _) => error,
        }
    }
}

/// That the encoder called `name` is not the expected one.
fn wrong_encoder(expected: &EncoderIdentity, fingerprint: &str, name: &str) -> ApiError {
    let fingerprint: String = fingerprint.chars().take(12).collect();
    ApiError::WrongEncoder {
        message: format!("the model expects encoder {expected}, found {name} ({fingerprint})"),
    }
}

/// That `encoder` is not the expected one.
pub(super) fn wrong_replica(expected: &EncoderIdentity, encoder: &GetEncoderResponse) -> ApiError {
    wrong_encoder(expected, &encoder.fingerprint, &format!("{} {}", encoder.id, encoder.version))
}

/// Checks an answer to `count` texts.
pub(super) fn vectors_of(
    answer: EncodeResponse,
    count: usize,
    dimension: usize,
    expected: &EncoderIdentity,
) -> Result<Vectors, Failure> {
    if answer.fingerprint != expected.fingerprint.as_str() {
        let error = wrong_encoder(expected, &answer.fingerprint, "an encoder");
        return Err(Failure::Wrong(error, answer.fingerprint));
    }
    let broken =
        |message: String| Failure::Replica(ApiError::Internal { message: format!("encoder: {message}") });
    if answer.embeddings.len() != count {
        return Err(broken(format!("expected {count} vectors, found {}", answer.embeddings.len())));
    }
    let mut values = Vec::with_capacity(count * dimension);
    let mut truncated = Vec::with_capacity(count);
    for embedding in answer.embeddings {
        let found = embedding.values.len();
        if found != dimension {
            return Err(broken(format!("expected vectors of {dimension} floats, found {found}")));
        }
        if embedding.values.iter().any(|value| !value.is_finite()) {
            return Err(broken("expected finite floats, found NaN or infinity".to_owned()));
        }
        values.extend(embedding.values);
        truncated.push(embedding.truncated);
    }
    let values =
        Array2::from_shape_vec((count, dimension), values).map_err(|error| broken(error.to_string()))?;
    Ok(Vectors { values, truncated })
}

/// What a failed attempt means.
pub(super) fn failure_of(status: &Status) -> Failure {
    let message = status.message();
    let unreachable = || {
        let message = format!("no encoder answers: {message}");
        Failure::Replica(ApiError::Unavailable { reason: "ENCODER_UNREACHABLE", message })
    };
    if is_our_own_timer(status) {
        return Failure::Final(ApiError::DeadlineExceeded);
    }
    match (status.code(), pushback(status)) {
        (Code::Unavailable, Pushback::After(retry_after)) => {
            let error = ApiError::Overloaded { message: format!("encoder: {message}"), retry_after };
            Failure::Full(error, retry_after)
        }
        (Code::Unavailable, Pushback::Never) => Failure::Final(ApiError::Overloaded {
            message: format!("encoder: {message}"),
            retry_after: Duration::from_secs(1),
        }),
        (Code::Unavailable, Pushback::None) => unreachable(),
        // A connection that breaks under a call is reported without a code of its own.
        (Code::Unknown | Code::Internal | Code::Cancelled, _) if has_transport_cause(status) => unreachable(),
        (Code::DeadlineExceeded | Code::Cancelled, _) => Failure::Final(ApiError::DeadlineExceeded),
        // Its limits are tighter than ours.
        (Code::InvalidArgument, _) => {
            Failure::Final(ApiError::invalid("overview", "REFUSED_BY_ENCODER", message))
        }
        (code, _) => {
            Failure::Replica(ApiError::Internal { message: format!("encoder: {code:?}: {message}") })
        }
    }
}

enum Pushback {
    None,
    After(Duration),
    Never,
}

/// When the encoder wants to be asked again: `grpc-retry-pushback-ms` (gRFC A6), else `google.rpc.RetryInfo`.
fn pushback(status: &Status) -> Pushback {
    if let Some(value) = status.metadata().get(PUSHBACK) {
        // What is negative or no number means never.
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        return millis.map_or(Pushback::Never, |millis| Pushback::After(Duration::from_millis(millis)));
    }
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    delay.map_or(Pushback::None, Pushback::After)
}

/// tonic's client reports its timer as if the connection had failed.
fn is_our_own_timer(status: &Status) -> bool {
    let mut causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.any(<dyn std::error::Error>::is::<tonic::TimeoutExpired>)
}

fn has_transport_cause(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

#[cfg(test)]
mod tests {
    use genre_model::Fingerprint;
    use proto::encoder::v1::Embedding;

    use super::*;

    fn identity() -> EncoderIdentity {
        EncoderIdentity {
            id: "tiny".to_owned(),
            version: "1".to_owned(),
            fingerprint: Fingerprint::parse("ab".repeat(32)).unwrap(),
        }
    }

    fn answer(vectors: &[&[f32]]) -> EncodeResponse {
        let embedding =
            |values: &&[f32]| Embedding { values: values.to_vec(), token_count: 3, truncated: false };
        EncodeResponse { embeddings: vectors.iter().map(embedding).collect(), fingerprint: "ab".repeat(32) }
    }

    #[test]
    fn an_overloaded_encoder_is_told_from_a_missing_one() {
        let retry_after = Duration::from_millis(70);
        let overloaded = ApiError::Overloaded { message: "full".to_owned(), retry_after };
        assert!(matches!(failure_of(&overloaded.into()), Failure::Full(_, found) if found == retry_after));
        let missing = failure_of(&Status::unavailable("tcp connect error"));
        assert!(matches!(&missing, Failure::Replica(_)));
        assert_eq!(missing.into_error().reason(), "ENCODER_UNREACHABLE");
    }

    #[test]
    fn a_negative_pushback_means_never() {
        let mut status = Status::unavailable("full");
        status.metadata_mut().insert(PUSHBACK, "-1".parse().unwrap());
        assert!(matches!(failure_of(&status), Failure::Final(ApiError::Overloaded { .. })));
    }

    #[test]
    fn a_text_that_the_encoder_refuses_is_the_callers_overview() {
        let status = Status::from(ApiError::invalid("texts[0]", "TEXT_TOO_LONG", "expected at most 9 bytes"));
        assert_eq!(failure_of(&status).into_error().code(), Code::InvalidArgument);
    }

    #[test]
    fn garbage_is_never_taken_for_vectors() {
        let check = |answer| vectors_of(answer, 1, 2, &identity()).unwrap_err();
        assert!(vectors_of(answer(&[&[0.5, 1.0]]), 1, 2, &identity()).is_ok());
        let two: &[f32] = &[0.5, 1.0];
        for garbage in [&[][..], &[two, two], &[&[0.5_f32][..]], &[&[0.5, f32::NAN][..]]] {
            assert!(matches!(check(answer(garbage)), Failure::Replica(ApiError::Internal { .. })));
        }
        let other = EncodeResponse { fingerprint: "cd".repeat(32), ..answer(&[&[0.5, 1.0]]) };
        assert!(matches!(check(other), Failure::Wrong(ApiError::WrongEncoder { .. }, _)));
    }
}
