//! The encoder as its callers see it: texts in, vectors out, in bounded numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use service_kit::{ApiError, Deadline};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::StartError;
use crate::bundle::{Bundle, Manifest};
use crate::queue::{Class, Encoded, Entry, Queue};
use crate::self_check::self_check;
use crate::session::EncoderSession;
use crate::session_pool::SessionPool;
use crate::settings::EncoderConfig;
use crate::tokenizer::TextTokenizer;

/// A caller that was turned away may try again after this: about what a handful of texts take.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A running encoder.
pub struct Encoder {
    manifest: Manifest,
    fingerprint: String,
    queue: Arc<Queue>,
    online_places: Arc<Semaphore>,
    bulk_places: Arc<Semaphore>,
    capacity: usize,
    pool: SessionPool,
}

impl Encoder {
    /// Verifies the bundle, loads it into each session, and checks that it gives its reference vectors.
    pub async fn start(config: EncoderConfig) -> Result<Self, StartError> {
        let joined = tokio::task::spawn_blocking(move || Self::start_blocking(&config)).await;
        joined.map_err(|error| StartError::System(std::io::Error::other(error)))?
    }

    fn start_blocking(config: &EncoderConfig) -> Result<Self, StartError> {
        let begin = Instant::now();
        let environment = crate::runtime::load(config.runtime_library.as_deref())?;
        let bundle = Bundle::open(&config.bundle)?;
        let tokenizer = TextTokenizer::load(&bundle)?;
        let session_error = |source| StartError::Session { path: bundle.model_path(), source };
        let mut sessions = (0..config.sessions)
            .map(|_| EncoderSession::load(&environment, &bundle))
            .collect::<Result<Vec<_>, _>>()
            .map_err(session_error)?;
        let texts = bundle.reference_texts()?;
        if let Some(session) = sessions.first_mut() {
            let self_check = |agreement| self_check(&texts, agreement, &tokenizer, session);
            bundle
                .manifest
                .reference
                .agreement()
                .and_then(self_check)
                .map_err(|reason| StartError::SelfCheck { path: bundle.folder().to_owned(), reason })?;
        }
        let queue = Arc::new(Queue::default());
        let pool = SessionPool::start(sessions, &tokenizer, &queue)?;
        tracing::info!(
            encoder = bundle.manifest.id,
            version = bundle.manifest.version,
            fingerprint = bundle.fingerprint,
            sessions = pool.len(),
            milliseconds = begin.elapsed().as_millis() as u64,
            "encoder ready"
        );
        Ok(Self {
            manifest: bundle.manifest,
            fingerprint: bundle.fingerprint,
            queue,
            online_places: Arc::new(Semaphore::new(config.queue_capacity)),
            bulk_places: Arc::new(Semaphore::new(config.queue_capacity)),
            capacity: config.queue_capacity,
            pool,
        })
    }

    /// What the bundle says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bundle's fingerprint, 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Sessions, and so texts that run at the same time.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.pool.len()
    }

    fn places(&self, class: Class) -> &Arc<Semaphore> {
        match class {
            Class::Online => &self.online_places,
            Class::Bulk => &self.bulk_places,
        }
    }

    /// Encodes all texts, in order, or none: where the queue has no room for all of them, nothing is run.
    pub async fn encode_batch(
        &self,
        texts: Vec<String>,
        class: Class,
        deadline: Deadline,
    ) -> Result<Vec<Encoded>, ApiError> {
        let full = || ApiError::Overloaded {
            message: format!("no room for {} texts in a queue of {}", texts.len(), self.capacity),
            retry_after: RETRY_AFTER,
        };
        let count = u32::try_from(texts.len()).map_err(|_| full())?;
        let mut places = self.places(class).clone().try_acquire_many_owned(count).map_err(|_| full())?;
        let (entries, replies): (Vec<_>, Vec<_>) = texts
            .into_iter()
            .map(|text| {
                let place = places.split(1).expect("as many places as texts were acquired");
                entry(text, deadline, place)
            })
            .unzip();
        self.queue.push(class, entries);
        try_join_all(replies.into_iter().map(answer)).await
    }

    /// Encodes one text, and waits for a place in the queue as long as the deadline allows.
    pub async fn encode_waiting(
        &self,
        text: String,
        class: Class,
        deadline: Deadline,
    ) -> Result<Encoded, ApiError> {
        let place = deadline.bound(self.places(class).clone().acquire_owned()).await?;
        let place = place.map_err(|_| stopping())?;
        let (entry, reply) = entry(text, deadline, place);
        self.queue.push(class, [entry]);
        deadline.bound(answer(reply)).await?
    }
}

type Reply = oneshot::Receiver<Result<Encoded, ApiError>>;

fn entry(text: String, deadline: Deadline, place: OwnedSemaphorePermit) -> (Entry, Reply) {
    let (reply, receiver) = oneshot::channel();
    (Entry { text, deadline, reply, place }, receiver)
}

async fn answer(reply: Reply) -> Result<Encoded, ApiError> {
    // An entry is dropped unanswered only when the pool ends.
    reply.await.unwrap_or_else(|_| Err(stopping()))
}

fn stopping() -> ApiError {
    ApiError::Unavailable { reason: "SHUTTING_DOWN", message: "the encoder is shutting down".to_owned() }
}
