//! The encoder as its callers see it: texts in, vectors out, in bounded numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use ort::environment::Environment;
use service_kit::{ApiError, Deadline, Metrics};

use crate::StartError;
use crate::bundle::{Bundle, ReferenceText};
use crate::cache::EmbeddingCache;
use crate::config::EncoderConfig;
use crate::inference::device::Device;
use crate::inference::self_check::{company_check, self_check};
use crate::inference::session::EncoderSession;
use crate::inference::shared_weights::SharedWeights;
use crate::inference::task_pool::{Model, TaskPool};
use crate::inference::worker_pool::{SessionPool, Sessions};
use crate::metrics::{ExpectedWait, StageMetrics, register_encoder};
use crate::scheduler::admission::{Admission, Place};
use crate::scheduler::cost::CostModel;
use crate::scheduler::micro_batch::BatchRule;
use crate::scheduler::queue::{Class, Encoded, Entry, Queue};
use crate::tokenizer::TextTokenizer;

/// Which encoder it is, and what its vectors are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name, such as `minilm-512`.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The bundle's fingerprint, 64 hexadecimal digits.
    pub fingerprint: String,
    /// Floats in a vector.
    pub dimension: usize,
    /// Tokens of a text at most, special tokens included.
    pub max_tokens: usize,
}

/// Whoever takes texts out of the queue, until it is dropped.
enum Workers {
    Threads { _pool: SessionPool },
    Tasks { _pool: TaskPool },
}

/// A running encoder.
pub struct Encoder {
    description: Description,
    queue: Arc<Queue>,
    admission: Arc<Admission>,
    cache: Option<EmbeddingCache>,
    cache_bulk: bool,
    stages: StageMetrics,
    sessions: usize,
    _workers: Workers,
}

impl Encoder {
    /// Verifies the bundle, loads it into each session, and checks that it gives its reference vectors.
    pub async fn start(config: EncoderConfig, metrics: Metrics) -> Result<Self, StartError> {
        let joined = tokio::task::spawn_blocking(move || Self::start_blocking(&config, &metrics)).await;
        joined.map_err(|error| StartError::System(std::io::Error::other(error)))?
    }

    fn start_blocking(config: &EncoderConfig, metrics: &Metrics) -> Result<Self, StartError> {
        let begin = Instant::now();
        let environment = crate::inference::onnx_runtime::load(config.runtime_library.as_deref())?;
        let bundle = Bundle::open(&config.bundle)?;
        let tokenizer = TextTokenizer::load(&bundle)?;
        let mut sessions = load_sessions(config, &environment, &bundle)?;
        let texts = bundle.reference_texts()?;
        let failed = |reason| StartError::SelfCheck { path: bundle.folder().to_owned(), reason };
        let agreement = bundle.manifest.reference.agreement().map_err(failed)?;
        // Each kind of session: what one thread gives is what many give.
        for session in sessions.narrow.first_mut().into_iter().chain(&mut sessions.wide) {
            self_check(&texts, agreement, &tokenizer, session).map_err(failed)?;
        }
        if let (Some(_), Some(session)) = (sessions.batches, sessions.narrow.first_mut()) {
            company_check(&texts, &tokenizer, session).map_err(failed)?;
        }
        let took = match sessions.narrow.first_mut() {
            Some(session) => timed(&texts, &tokenizer, session).map_err(failed)?,
            None => Duration::ZERO,
        };
        let costs = CostModel::new(bundle.manifest.max_tokens, longest(&texts), took);
        let description = Description {
            id: bundle.manifest.id,
            version: bundle.manifest.version,
            fingerprint: bundle.fingerprint,
            dimension: bundle.manifest.dimension,
            max_tokens: bundle.manifest.max_tokens,
        };
        let encoder = Self::assemble(description, costs, config, metrics, |queue, admission, stages| {
            let pool = SessionPool::start(sessions, &tokenizer, queue, admission, stages);
            pool.map(|pool| Workers::Threads { _pool: pool })
        })?;
        tracing::info!(
            encoder = encoder.description.id,
            version = encoder.description.version,
            fingerprint = encoder.description.fingerprint,
            device = %config.device,
            sessions = encoder.sessions(),
            milliseconds = begin.elapsed().as_millis() as u64,
            "encoder ready"
        );
        Ok(encoder)
    }

    /// An encoder whose texts are run by `model`, `config.sessions` of them at a time, by tasks of this runtime; `text` is
    /// known to take one of them so long.
    #[must_use]
    pub fn of_model(
        description: Description,
        model: impl Model,
        (text, took): (&str, Duration),
        config: &EncoderConfig,
        metrics: &Metrics,
    ) -> Self {
        let costs = CostModel::new(description.max_tokens, text, took);
        let assembled = Self::assemble(description, costs, config, metrics, |queue, admission, stages| {
            let pool = TaskPool::start(model, config.sessions, queue, admission, stages);
            Ok::<_, std::convert::Infallible>(Workers::Tasks { _pool: pool })
        });
        let Ok(encoder) = assembled;
        encoder
    }

    fn assemble<E>(
        description: Description,
        costs: CostModel,
        config: &EncoderConfig,
        metrics: &Metrics,
        start: impl FnOnce(&Arc<Queue>, &Arc<Admission>, &StageMetrics) -> Result<Workers, E>,
    ) -> Result<Self, E> {
        let admission = Arc::new(Admission::new(costs, config.sessions, config.longest_queues, metrics));
        let queue = Arc::new(Queue::default());
        metrics.register_collector(ExpectedWait(admission.clone()));
        let stages = StageMetrics::new(metrics);
        let workers = start(&queue, &admission, &stages)?;
        register_encoder(metrics, &description, config.sessions);
        Ok(Self {
            description,
            queue,
            admission,
            cache: (config.cache_bytes > 0).then(|| EmbeddingCache::new(config.cache_bytes, metrics)),
            cache_bulk: config.cache_bulk,
            stages,
            sessions: config.sessions,
            _workers: workers,
        })
    }

    /// Which encoder it is.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The bundle's fingerprint, 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.description.fingerprint
    }

    /// Sessions, and so texts that run at the same time.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// Texts that wait for a session.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn cache(&self, class: Class) -> Option<&EmbeddingCache> {
        self.cache.as_ref().filter(|_| class == Class::Online || self.cache_bulk)
    }

    /// Encodes all texts, in order, or none: where there is no time for all of them, nothing is run.
    pub async fn encode_batch(
        &self,
        texts: Vec<String>,
        class: Class,
        deadline: Deadline,
    ) -> Result<Vec<Encoded>, ApiError> {
        self.stages.batch(texts.len());
        let mut known = Vec::with_capacity(texts.len());
        for text in &texts {
            known.push(match self.cache(class) {
                Some(cache) => cache.get(text).await,
                None => None,
            });
        }
        let unknown: Vec<_> = texts
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(text, _)| text.as_str())
            .collect();
        let mut places = self.admission.admit(&unknown, class, deadline)?.into_iter();
        try_join_all(texts.into_iter().zip(known).map(|(text, known)| {
            let place = if known.is_none() { places.next() } else { None };
            async move {
                match (known, place) {
                    (Some(encoded), _) => Ok(encoded),
                    (None, Some(place)) => self.run(text, class, deadline, place).await,
                    (None, None) => Err(stopping()),
                }
            }
        }))
        .await
    }

    /// Encodes one text, and waits for room in the queue as long as the deadline allows.
    pub async fn encode_waiting(
        &self,
        text: String,
        class: Class,
        deadline: Deadline,
    ) -> Result<Encoded, ApiError> {
        if let Some(cache) = self.cache(class)
            && let Some(encoded) = cache.get(&text).await
        {
            return Ok(encoded);
        }
        let place = self.admission.admit_waiting(&text, class, deadline).await?;
        deadline.bound(self.run(text, class, deadline, place)).await?
    }

    /// The vector of an admitted text: from the queue, or from whoever is running the same text already.
    async fn run(
        &self,
        text: String,
        class: Class,
        deadline: Deadline,
        place: Place,
    ) -> Result<Encoded, ApiError> {
        let Some(cache) = self.cache(class) else { return self.enqueue(text, class, deadline, place).await };
        let mut place = Some(place);
        loop {
            let run = async {
                // The place is there once: whoever ran, and failed, returns.
                let place = place.take().ok_or_else(stopping)?;
                self.enqueue(text.clone(), class, deadline, place).await
            };
            match cache.get_or_run(&text, run).await {
                // The other caller had less time than this one has.
                Err(ApiError::DeadlineExceeded) if place.is_some() && !deadline.has_passed() => {}
                outcome => return outcome,
            }
        }
    }

    async fn enqueue(
        &self,
        text: String,
        class: Class,
        deadline: Deadline,
        place: Place,
    ) -> Result<Encoded, ApiError> {
        let (entry, answer) = Entry::new(text, deadline);
        self.queue.push(class, [entry]);
        // An entry is dropped unanswered only when the pool ends.
        let outcome = answer.await.unwrap_or_else(|_| Err(stopping()));
        // The caller holds the place: one who leaves gives it back at once, not when a worker comes to the entry.
        drop(place);
        outcome
    }
}

fn load_sessions(
    config: &EncoderConfig,
    environment: &Environment,
    bundle: &Bundle,
) -> Result<Sessions, StartError> {
    let session_error = |source| StartError::Session { path: bundle.model_path(), source };
    let (narrow, wide) = match config.device {
        Device::Cpu => {
            let weights = SharedWeights::read(&bundle.model_path())
                .map_err(|source| StartError::Weights { path: bundle.model_path(), source })?;
            let load =
                |threads| EncoderSession::load(environment, bundle, &weights, threads).map_err(session_error);
            let narrow = (0..config.sessions).map(|_| load(1)).collect::<Result<_, _>>()?;
            (narrow, Some(load(config.all_core_threads)?))
        }
        Device::Cuda => {
            let load = || EncoderSession::load_on_cuda(environment, bundle, config.device_id);
            let device_error = |source| StartError::Device { device: config.device, source };
            ((0..config.sessions).map(|_| load().map_err(device_error)).collect::<Result<_, _>>()?, None)
        }
    };
    let batches =
        config.batch_tokens.map(|tokens| BatchRule { tokens, max_tokens: bundle.manifest.max_tokens });
    Ok(Sessions { niceness: config.worker_niceness, narrow, wide, batches })
}

fn longest(texts: &[ReferenceText]) -> &str {
    texts.iter().map(|text| text.text.as_str()).max_by_key(|text| text.len()).unwrap_or("a")
}

/// How long the longest reference text takes, once everything is warm.
fn timed(
    texts: &[ReferenceText],
    tokenizer: &TextTokenizer,
    session: &mut EncoderSession,
) -> Result<Duration, String> {
    let begin = Instant::now();
    let tokens = tokenizer.tokenize(longest(texts))?;
    session.run(&tokens).map_err(|error| error.to_string())?;
    Ok(begin.elapsed())
}

pub(crate) fn stopping() -> ApiError {
    ApiError::Unavailable { reason: "SHUTTING_DOWN", message: "the encoder is shutting down".to_owned() }
}
