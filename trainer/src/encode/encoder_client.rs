//! The encoder as a batch job calls it: in bulk class, patient, and certain that it is always the same one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use genre_model::{EncoderIdentity, Fingerprint};
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, EncodeResponse, GetEncoderRequest, GetEncoderResponse, Priority};
use service_kit::{InvalidTarget, Target, propagate_trace};
use tonic::transport::Channel;
use tonic::{Response, Status};
use tracing::Instrument as _;

use crate::encode::replicas::Replicas;
use crate::encode::retry::{LastSuccess, RetryPolicy, delay, is_transient};

/// The longest vector that is believed.
const MAX_DIMENSION: u32 = 1 << 16;

/// Why texts cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The address is no URL.
    #[error("encoder: {0}")]
    Url(#[from] InvalidTarget),
    /// No call has succeeded for a long time.
    #[error("encoder: no answer for {} s: {}: {}", .waited.as_secs(), .status.code(), .status.message())]
    Unavailable {
        /// For how long.
        waited: Duration,
        /// The last failure.
        status: Box<Status>,
    },
    /// The encoder refuses the call.
    #[error("encoder: {}: {}", .0.code(), .0.message())]
    Refused(Box<Status>),
    /// The answer breaks the protocol.
    #[error("encoder: {0}")]
    Answer(String),
    /// Replicas are different encoders.
    #[error("encoders: expected replicas of one encoder, found {expected} and {found}")]
    Mixed {
        /// The first.
        expected: String,
        /// One that is another.
        found: String,
    },
    /// Another encoder answers than the one that the job began with.
    #[error("encoder: expected vectors of {expected}, found some of {found:?}: it was replaced meanwhile")]
    Replaced {
        /// The job's encoder.
        expected: EncoderIdentity,
        /// The fingerprint in the answer.
        found: String,
    },
}

/// What the encoder says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderDescription {
    /// Which encoder it is.
    pub identity: EncoderIdentity,
    /// Floats in a vector.
    pub dimension: usize,
    /// Texts in one call at most.
    pub max_batch_size: usize,
    /// Bytes in one text at most.
    pub max_text_bytes: usize,
}

/// Connections to one encoder, or to several replicas of it. Clones share them.
#[derive(Debug, Clone)]
pub struct EncoderClient {
    replicas: Arc<Replicas>,
    description: EncoderDescription,
    policy: RetryPolicy,
    last_success: Arc<LastSuccess>,
    shortened: Arc<AtomicU64>,
}

/// A channel to `url`; it connects with the first call.
pub fn channel(url: &str) -> Result<Channel, EncoderError> {
    Ok(Target::parse(url)?.channel(None, None))
}

impl EncoderClient {
    /// Asks the encoder who it is.
    pub async fn connect(channel: Channel, policy: RetryPolicy) -> Result<Self, EncoderError> {
        Self::connect_all(vec![channel], policy).await
    }

    /// Asks all replicas who they are; they must be one encoder. A replica that does not answer yet may do so later:
    /// whatever it says, its fingerprint is checked with every answer.
    pub async fn connect_all(channels: Vec<Channel>, policy: RetryPolicy) -> Result<Self, EncoderError> {
        let connecting = RetryPolicy { patience: policy.connect_patience, ..policy };
        let clients: Vec<_> = channels.into_iter().map(EncoderServiceClient::new).collect();
        let asked = clients.iter().map(|client| async {
            let alone = Replicas::new([client.clone()]);
            let ask = |mut client: EncoderServiceClient<Channel>| async move {
                client.get_encoder(GetEncoderRequest {}).await
            };
            let answer = with_retries(&connecting, &LastSuccess::now(), &alone, ask).await?;
            EncoderDescription::check(answer).map_err(EncoderError::Answer)
        });
        let mut description: Option<EncoderDescription> = None;
        let mut failure = None;
        for answer in futures_util::future::join_all(asked).await {
            let found = match answer {
                Ok(found) => found,
                Err(error @ EncoderError::Unavailable { .. }) if clients.len() > 1 => {
                    tracing::warn!("one of {} encoders: {error}", clients.len());
                    failure = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match &mut description {
                None => description = Some(found),
                Some(first) if found.identity.fingerprint == first.identity.fingerprint => {
                    first.max_batch_size = first.max_batch_size.min(found.max_batch_size);
                    first.max_text_bytes = first.max_text_bytes.min(found.max_text_bytes);
                }
                Some(first) => {
                    let (expected, found) = (first.identity.to_string(), found.identity.to_string());
                    return Err(EncoderError::Mixed { expected, found });
                }
            }
        }
        let Some(description) = description else {
            return Err(
                failure.unwrap_or_else(|| EncoderError::Answer("expected an encoder, found none".to_owned()))
            );
        };
        let (last_success, shortened) = (Arc::new(LastSuccess::now()), Arc::default());
        let replicas = Arc::new(Replicas::new(clients));
        Ok(Self { replicas, description, policy, last_success, shortened })
    }

    /// How many encoders share the work.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }

    /// What the encoder said of itself.
    #[must_use]
    pub fn description(&self) -> &EncoderDescription {
        &self.description
    }

    /// Texts that were longer than the encoder accepts and whose ends were cut off here.
    #[must_use]
    pub fn shortened(&self) -> u64 {
        self.shortened.load(Ordering::Relaxed)
    }

    /// One call: at most `max_batch_size` texts to as many vectors, one after the other.
    pub async fn encode(&self, mut texts: Vec<String>) -> Result<Vec<f32>, EncoderError> {
        for text in &mut texts {
            self.shorten(text);
        }
        let request = EncodeRequest { texts, priority: Priority::Bulk.into() };
        let call = |mut client: EncoderServiceClient<Channel>| {
            let mut request = tonic::Request::new(request.clone());
            let span =
                tracing::debug_span!("encode", otel.kind = "client", texts = request.get_ref().texts.len());
            span.in_scope(|| propagate_trace(request.metadata_mut().as_mut()));
            async move { client.encode(request).await }.instrument(span)
        };
        let answer = with_retries(&self.policy, &self.last_success, &self.replicas, call).await?;
        self.check(answer, request.texts.len())
    }

    /// The encoder refuses texts far longer than it reads: cutting them here changes no vector.
    fn shorten(&self, text: &mut String) {
        if text.len() > self.description.max_text_bytes {
            let limit = self.description.max_text_bytes;
            let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
            text.truncate(end);
            self.shortened.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn check(&self, answer: EncodeResponse, texts: usize) -> Result<Vec<f32>, EncoderError> {
        let identity = &self.description.identity;
        if answer.fingerprint != identity.fingerprint.as_str() {
            return Err(EncoderError::Replaced { expected: identity.clone(), found: answer.fingerprint });
        }
        if answer.embeddings.len() != texts {
            let found = answer.embeddings.len();
            return Err(EncoderError::Answer(format!("expected {texts} vectors, one a text, found {found}")));
        }
        let dimension = self.description.dimension;
        let mut values = Vec::with_capacity(texts * dimension);
        for embedding in answer.embeddings {
            if embedding.values.len() != dimension {
                let found = embedding.values.len();
                return Err(EncoderError::Answer(format!(
                    "expected vectors of {dimension} floats, found {found}"
                )));
            }
            if let Some(found) = embedding.values.iter().find(|value| !value.is_finite()) {
                return Err(EncoderError::Answer(format!("expected finite numbers, found {found}")));
            }
            values.extend(embedding.values);
        }
        Ok(values)
    }
}

impl EncoderDescription {
    fn check(answer: GetEncoderResponse) -> Result<Self, String> {
        let fingerprint = Fingerprint::parse(answer.fingerprint).map_err(|error| error.to_string())?;
        if !(1..=MAX_DIMENSION).contains(&answer.dimension) {
            return Err(format!("expected a dimension of 1 to {MAX_DIMENSION}, found {}", answer.dimension));
        }
        let or_any = |limit: u32| if limit == 0 { usize::MAX } else { limit as usize };
        Ok(Self {
            identity: EncoderIdentity { id: answer.id, version: answer.version, fingerprint },
            dimension: answer.dimension as usize,
            max_batch_size: or_any(answer.max_batch_size),
            max_text_bytes: or_any(answer.max_text_bytes),
        })
    }
}

async fn with_retries<T, F>(
    policy: &RetryPolicy,
    last_success: &LastSuccess,
    replicas: &Replicas,
    call: impl Fn(EncoderServiceClient<Channel>) -> F,
) -> Result<T, EncoderError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    for tries in 1.. {
        let replica = replicas.choose();
        let outcome = tokio::time::timeout(policy.call_timeout, call(replica.client())).await;
        let late = |_| Err(Status::deadline_exceeded(format!("no answer in {:?}", policy.call_timeout)));
        let status = match outcome.unwrap_or_else(late) {
            Ok(answer) => {
                last_success.renew();
                return Ok(answer.into_inner());
            }
            Err(status) => status,
        };
        if !is_transient(&status) {
            return Err(EncoderError::Refused(Box::new(status)));
        }
        replica.rest(delay(policy, &status, tries));
        drop(replica);
        // Another replica may be well.
        let wait = replicas.wait();
        let waited = last_success.elapsed();
        if waited + wait > policy.patience {
            return Err(EncoderError::Unavailable { waited, status: Box::new(status) });
        }
        // A full queue is daily business; what lasts longer is worth a word.
        if tries == 6 {
            tracing::warn!("encoder: {}: {}; trying again", status.code(), status.message());
        }
        tokio::time::sleep(wait).await;
    }
    unreachable!("an endless loop ends by returning")
}
