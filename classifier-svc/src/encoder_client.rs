//! The encoder, as the classifier sees it: texts in, vectors of one fingerprint out.

use std::time::Duration;

use genre_model::EncoderIdentity;
use ndarray::Array2;
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, GetEncoderRequest, GetEncoderResponse, Priority};
use service_kit::{ApiError, Deadline};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// Vectors of 256 texts are half a mebibyte; what an encoder sends beyond this is none of ours.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Asks one encoder, and takes vectors from no other.
#[derive(Clone)]
pub struct EncoderClient {
    client: EncoderServiceClient<Channel>,
    identity: EncoderIdentity,
    timeout: Duration,
}

/// Vectors of a batch of texts, in their order.
#[derive(Debug)]
pub struct Vectors {
    /// Shape `[texts, dimension]`.
    pub values: Array2<f32>,
    /// For each text whether its end was cut off.
    pub truncated: Vec<bool>,
}

impl EncoderClient {
    /// `identity` is the encoder to accept; `timeout` bounds a call whose caller gave no deadline.
    #[must_use]
    pub fn new(channel: Channel, identity: EncoderIdentity, timeout: Duration) -> Self {
        let client = EncoderServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, identity, timeout }
    }

    /// The one whose vectors are accepted.
    #[must_use]
    pub fn identity(&self) -> &EncoderIdentity {
        &self.identity
    }

    /// Who answers; [`ApiError::WrongEncoder`] where it is another than expected.
    pub async fn check(&self, timeout: Duration) -> Result<GetEncoderResponse, ApiError> {
        let mut request = Request::new(GetEncoderRequest {});
        request.set_timeout(timeout);
        let answer = Deadline::after(timeout).bound(self.client.clone().get_encoder(request)).await?;
        let encoder = answer.map_err(|status| from_encoder(&status))?.into_inner();
        self.accept(&encoder.fingerprint, &format!("{} {}", encoder.id, encoder.version))?;
        Ok(encoder)
    }

    fn accept(&self, fingerprint: &str, name: &str) -> Result<(), ApiError> {
        if fingerprint == self.identity.fingerprint.as_str() {
            return Ok(());
        }
        let expected = &self.identity;
        let fingerprint: String = fingerprint.chars().take(12).collect();
        Err(ApiError::WrongEncoder {
            message: format!("the model expects encoder {expected}, found {name} ({fingerprint})"),
        })
    }

    /// Vectors of `texts`, of length `dimension`, by the accepted encoder.
    pub async fn encode(
        &self,
        texts: Vec<String>,
        dimension: usize,
        deadline: Deadline,
    ) -> Result<Vectors, ApiError> {
        let count = texts.len();
        let timeout = deadline.remaining().unwrap_or(self.timeout).min(self.timeout);
        let mut request = Request::new(EncodeRequest { texts, priority: Priority::Online.into() });
        request.set_timeout(timeout);
        let answer = Deadline::after(timeout).bound(self.client.clone().encode(request)).await?;
        let answer = answer.map_err(|status| from_encoder(&status))?.into_inner();
        self.accept(&answer.fingerprint, "an encoder")?;

        let broken = |message: String| ApiError::Internal { message: format!("encoder: {message}") };
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
}

/// What a failed call to the encoder means for the call that needed it.
fn from_encoder(status: &Status) -> ApiError {
    let retry_delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let unreachable = |message: &str| ApiError::Unavailable {
        reason: "ENCODER_UNREACHABLE",
        message: format!("no encoder answers: {message}"),
    };
    match (status.code(), retry_delay) {
        (Code::Unavailable, Some(retry_after)) => {
            ApiError::Overloaded { message: format!("encoder: {}", status.message()), retry_after }
        }
        (Code::Unavailable, None) => unreachable(status.message()),
        // A connection that breaks under a call is reported without a code of its own.
        (Code::Unknown | Code::Internal | Code::Cancelled, _) if has_transport_cause(status) => {
            unreachable(status.message())
        }
        (Code::DeadlineExceeded | Code::Cancelled, _) => ApiError::DeadlineExceeded,
        // Its limits are tighter than ours.
        (Code::InvalidArgument, _) => ApiError::invalid("overview", "REFUSED_BY_ENCODER", status.message()),
        (code, _) => ApiError::Internal { message: format!("encoder: {code:?}: {}", status.message()) },
    }
}

fn has_transport_cause(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overloaded_encoder_is_told_from_a_missing_one() {
        let retry_after = Duration::from_millis(70);
        let overloaded = ApiError::Overloaded { message: "full".to_owned(), retry_after };
        assert!(matches!(
            from_encoder(&overloaded.into()),
            ApiError::Overloaded { retry_after: found, .. } if found == retry_after
        ));
        let missing = from_encoder(&Status::unavailable("tcp connect error"));
        assert_eq!(missing.reason(), "ENCODER_UNREACHABLE");
    }

    #[test]
    fn a_text_that_the_encoder_refuses_is_the_callers_overview() {
        let status = Status::from(ApiError::invalid("texts[0]", "TEXT_TOO_LONG", "expected at most 9 bytes"));
        assert_eq!(from_encoder(&status).code(), Code::InvalidArgument);
    }
}
