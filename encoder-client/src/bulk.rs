//! The client of a bulk job: the same encoder for every text of the job, on any number of replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use service_kit::{Deadline, Metrics, Secret, Target};
use tonic::transport::Channel;

use crate::attempts::{Attempts, Call};
use crate::client::EncoderClient;
use crate::error::EncoderError;
use crate::policy::{BulkPolicy, Policy};
use crate::replica::{Health, Replica};
use crate::replicas::Replicas;
use crate::verify::{EncoderDescription, Vectors};

/// A client of replicas that all run the same encoder. Clones share the replicas.
#[derive(Debug, Clone)]
pub struct BulkEncoder {
    client: EncoderClient,
    replicas: usize,
    description: EncoderDescription,
    shortened: Arc<AtomicU64>,
}

/// Returns a channel to `url`, without TLS, that connects on the first call.
pub fn channel(url: &str) -> Result<Channel, EncoderError> {
    Ok(Target::parse(url)?.channel(None, None))
}

impl BulkEncoder {
    /// Asks all replicas for their descriptions, which must name the same encoder. `api_key` is sent
    /// with every call.
    ///
    /// A replica that does not answer yet may join later, since every reply is verified. At least
    /// one must answer.
    pub async fn connect(
        channels: Vec<Channel>,
        api_key: Option<&Secret>,
        policy: BulkPolicy,
    ) -> Result<Self, EncoderError> {
        let replica = |(index, channel)| {
            Arc::new(Replica::new(format!("replica {index}"), channel, api_key, Health::Serving))
        };
        let replicas: Vec<_> = channels.into_iter().enumerate().map(replica).collect();
        let connecting = BulkPolicy {
            patience: policy.connect_patience,
            call_timeout: policy.call_timeout.min(policy.connect_patience),
            ..policy
        };
        let asked = replicas.iter().map(|replica| describe(replica.clone(), connecting));
        let mut description: Option<EncoderDescription> = None;
        let mut failure = None;
        for answer in futures_util::future::join_all(asked).await {
            let found = match answer {
                Ok(found) => found,
                Err(error @ EncoderError::Unavailable { .. }) if replicas.len() > 1 => {
                    tracing::warn!("one of {} encoders: {error}", replicas.len());
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
        let none = || EncoderError::Malformed("expected an encoder, found none".to_owned());
        let description = description.ok_or_else(|| failure.unwrap_or_else(none))?;
        let count = replicas.len();
        let replicas = Replicas::new(replicas, String::new());
        let client = EncoderClient::new(replicas, Policy::Bulk(policy), &Metrics::default());
        Ok(Self { client, replicas: count, description, shortened: Arc::default() })
    }

    /// The number of replicas that share the work.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// The encoder of the job, with the smallest limits among its replicas.
    #[must_use]
    pub fn description(&self) -> &EncoderDescription {
        &self.description
    }

    /// The number of texts that were shortened to the encoder's limit.
    #[must_use]
    pub fn shortened(&self) -> u64 {
        self.shortened.load(Ordering::Relaxed)
    }

    /// Encodes at most `max_batch_size` texts.
    pub async fn encode(&self, mut texts: Vec<String>) -> Result<Vectors, EncoderError> {
        for text in &mut texts {
            self.shorten(text);
        }
        let EncoderDescription { identity, dimension, .. } = &self.description;
        self.client.encode(texts, *dimension, identity, None, Deadline::NONE).await
    }

    /// Shortens a text to the encoder's limit in bytes. This changes no vector, because the limit
    /// is far above the number of tokens that the encoder reads.
    fn shorten(&self, text: &mut String) {
        let limit = self.description.max_text_bytes;
        if text.len() > limit {
            text.truncate(text.floor_char_boundary(limit));
            self.shortened.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Asks a single replica for its description.
async fn describe(replica: Arc<Replica>, policy: BulkPolicy) -> Result<EncoderDescription, EncoderError> {
    let alone = Replicas::new(vec![replica], String::new());
    let attempts = Attempts::new(alone, Policy::Bulk(policy), &Metrics::default());
    let call = Call { expected: None, texts: 0, deadline: Deadline::NONE };
    attempts.make(call, |replica| async move { replica.describe(None).await }).await
}
