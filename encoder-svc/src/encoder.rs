//! The encoder: cache → admit → enqueue → reply.

use std::sync::Arc;

use futures_util::future::try_join_all;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use service_kit::{ApiError, CallerId, Deadline, Metrics};

use crate::bundle::Description;
use crate::cache::VectorCache;
use crate::calibration::Calibration;
use crate::config::EncoderConfig;
use crate::metrics::{ExpectedWait, register_encoder};
use crate::scheduler::admission::{Admission, Permit};
use crate::scheduler::entry::{Class, Entry, Reply, shutting_down};
use crate::scheduler::workers::Workers;

/// A running encoder. Dropping it ends its workers.
pub struct Encoder {
    description: Description,
    calibration: Calibration,
    admission: Arc<Admission>,
    workers: Box<dyn Workers>,
    cache: Option<VectorCache>,
    cache_bulk: bool,
    batch_texts: Histogram,
}

impl Encoder {
    /// Creates an encoder. `workers` run the entries that `admission` admits, and train its cost
    /// model.
    #[must_use]
    pub fn new(
        description: Description,
        calibration: Calibration,
        admission: Arc<Admission>,
        workers: impl Workers + 'static,
        config: &EncoderConfig,
        metrics: &Metrics,
    ) -> Self {
        metrics.register_collector(ExpectedWait(admission.clone()));
        register_encoder(metrics, &description, config.sessions, &calibration);
        Self {
            description,
            calibration,
            admission,
            workers: Box::new(workers),
            cache: (config.cache_bytes > 0).then(|| VectorCache::new(config.cache_bytes, metrics)),
            cache_bulk: config.cache_bulk,
            batch_texts: metrics.register(
                "encoder_batch_texts",
                "Texts of an Encode call",
                Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            ),
        }
    }

    /// Describes the bundle that the encoder runs.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The speed of the machine, as measured at startup.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The bundle's fingerprint, 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.description.fingerprint
    }

    fn cache(&self, class: Class) -> Option<&VectorCache> {
        self.cache.as_ref().filter(|_| class == Class::Online || self.cache_bulk)
    }

    /// Encodes all texts, in order. Rejects the whole batch at once if it cannot be encoded in
    /// time.
    pub async fn encode_batch(
        &self,
        texts: Vec<String>,
        class: Class,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<Vec<Reply>, ApiError> {
        self.encode_charged(texts, class, caller, deadline, || Ok(())).await
    }

    /// Like [`encode_batch`](Self::encode_batch), but calls `charge` once the batch is admitted, so
    /// that a rejected batch is not charged. If `charge` fails, nothing runs.
    pub async fn encode_charged(
        &self,
        texts: Vec<String>,
        class: Class,
        caller: CallerId,
        deadline: Deadline,
        charge: impl FnOnce() -> Result<(), ApiError>,
    ) -> Result<Vec<Reply>, ApiError> {
        self.batch_texts.observe(texts.len() as f64);
        let mut cached = Vec::with_capacity(texts.len());
        for text in &texts {
            cached.push(match self.cache(class) {
                Some(cache) => cache.get(text).await,
                None => None,
            });
        }
        let missing: Vec<_> = texts
            .iter()
            .zip(&cached)
            .filter(|(_, cached)| cached.is_none())
            .map(|(text, _)| text.as_str())
            .collect();
        let mut permits = self.admission.admit(&missing, class, caller, deadline)?.into_iter();
        charge()?;
        try_join_all(texts.into_iter().zip(cached).map(|(text, cached)| {
            let permit = if cached.is_none() { permits.next() } else { None };
            async move {
                match (cached, permit) {
                    (Some(reply), _) => Ok(reply),
                    (None, Some(permit)) => self.run(text, class, deadline, permit).await,
                    (None, None) => Err(shutting_down()),
                }
            }
        }))
        .await
    }

    /// Encodes one text. Waits for a permit for as long as the deadline allows.
    pub async fn encode_waiting(
        &self,
        text: String,
        class: Class,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<Reply, ApiError> {
        if let Some(cache) = self.cache(class)
            && let Some(reply) = cache.get(&text).await
        {
            return Ok(reply);
        }
        let permit = self.admission.admit_waiting(&text, class, caller, deadline).await?;
        deadline.bound(self.run(text, class, deadline, permit)).await?
    }

    /// Runs an admitted text, or joins a run of the same text that is under way. Bulk texts are run
    /// without joining: an online text that joined one would wait as long as bulk texts do.
    async fn run(
        &self,
        text: String,
        class: Class,
        deadline: Deadline,
        permit: Permit,
    ) -> Result<Reply, ApiError> {
        let Some(cache) = self.cache(class) else { return self.enqueue(text, class, deadline, permit).await };
        if class == Class::Bulk {
            return cache.run(&text, self.enqueue(text.clone(), class, deadline, permit)).await;
        }
        let mut permit = Some(permit);
        loop {
            let run = async {
                // Only a run of its own takes the permit, and the loop ends after that.
                let permit = permit.take().ok_or_else(shutting_down)?;
                self.enqueue(text.clone(), class, deadline, permit).await
            };
            match cache.get_or_run(&text, run).await {
                // The run that was joined had an earlier deadline than this one.
                Err(ApiError::DeadlineExceeded) if permit.is_some() && !deadline.has_passed() => {}
                result => return result,
            }
        }
    }

    async fn enqueue(
        &self,
        text: String,
        class: Class,
        deadline: Deadline,
        permit: Permit,
    ) -> Result<Reply, ApiError> {
        let (entry, reply) = Entry::new(text, permit.share(), deadline);
        self.workers.push(class, entry);
        // An entry is dropped without a reply only when the workers end.
        let result = reply.await.unwrap_or_else(|_| Err(shutting_down()));
        // The caller holds the permit, so it is freed as soon as the caller leaves, not when a
        // worker finds the entry.
        if result.is_ok() {
            permit.complete();
        }
        result
    }
}
