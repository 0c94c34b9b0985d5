//! One worker thread a core, each with a session of its own, all fed from one queue; and one session of all cores for a
//! text that is alone.
//!
//! Measured on CPU: sessions of one thread that run each text alone are within 5 % of the best batching, at the
//! lowest latency, and a text's vector does not depend on its company (see ARCHITECTURE.md). When nothing else waits or
//! runs, the other cores would stand idle: then the text is run on all of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Instant;

use service_kit::ApiError;

use crate::admission::Admission;
use crate::queue::{Encoded, Entry, Queue};
use crate::session::EncoderSession;
use crate::tokenizer::TextTokenizer;

/// The workers; dropping it ends them, each after the text it is at.
pub struct SessionPool {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
}

/// The sessions of a pool.
pub struct Sessions {
    /// One thread each.
    pub narrow: Vec<EncoderSession>,
    /// All cores, for a text that is alone.
    pub wide: Option<EncoderSession>,
}

impl SessionPool {
    /// Starts a worker for each narrow session.
    pub fn start(
        sessions: Sessions,
        tokenizer: &TextTokenizer,
        queue: &Arc<Queue>,
        admission: &Arc<Admission>,
    ) -> std::io::Result<Self> {
        let wide = Arc::new(sessions.wide.map(Mutex::new));
        let sessions = sessions.narrow;
        let mut pool = Self { queue: queue.clone(), workers: Vec::with_capacity(sessions.len()) };
        for (index, session) in sessions.into_iter().enumerate() {
            let mut worker = Worker {
                narrow: session,
                wide: wide.clone(),
                tokenizer: tokenizer.clone(),
                admission: admission.clone(),
            };
            let queue = queue.clone();
            let worker = std::thread::Builder::new().name(format!("session-{index}")).spawn(move || {
                while let Some(next) = queue.pop() {
                    worker.answer(next.entry, next.alone);
                    queue.done();
                }
            })?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }
}

impl Drop for SessionPool {
    fn drop(&mut self) {
        self.queue.close();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of what it runs, so there is nothing to report.
            let _ = worker.join();
        }
    }
}

struct Worker {
    narrow: EncoderSession,
    wide: Arc<Option<Mutex<EncoderSession>>>,
    tokenizer: TextTokenizer,
    admission: Arc<Admission>,
}

impl Worker {
    fn answer(&mut self, entry: Entry, alone: bool) {
        if entry.is_abandoned() {
            return;
        }
        let result = if entry.deadline.has_passed() {
            Err(ApiError::DeadlineExceeded)
        } else {
            // A defect met by one text must not take the session from all others.
            catch_unwind(AssertUnwindSafe(|| self.encode(&entry.text, alone)))
                .unwrap_or_else(|_| Err("panicked".to_owned()))
                .map_err(|reason| {
                    tracing::error!(reason, bytes = entry.text.len(), "encoding a text failed");
                    ApiError::Internal { message: "encoding the text failed".to_owned() }
                })
        };
        // The caller may have left meanwhile.
        let _ = entry.reply.send(result);
    }

    fn encode(&mut self, text: &str, alone: bool) -> Result<Encoded, String> {
        let begin = Instant::now();
        // It may still be at the last lone text, beside which this one came.
        let wide = self.wide.as_ref().as_ref().filter(|_| alone).and_then(|wide| match wide.try_lock() {
            Ok(wide) => Some(wide),
            Err(TryLockError::Poisoned(wide)) => Some(PoisonError::into_inner(wide)),
            Err(TryLockError::WouldBlock) => None,
        });
        if let Some(mut wide) = wide {
            return encode(&mut wide, &self.tokenizer, text);
        }
        let encoded = encode(&mut self.narrow, &self.tokenizer, text)?;
        self.admission.costs().learn(text, begin.elapsed());
        Ok(encoded)
    }
}

/// The vector of one text.
pub(crate) fn encode(
    session: &mut EncoderSession,
    tokenizer: &TextTokenizer,
    text: &str,
) -> Result<Encoded, String> {
    let tokens = tokenizer.tokenize(text)?;
    let vector = session.run(&tokens).map_err(|error| error.to_string())?;
    Ok(Encoded { vector, token_count: tokens.ids.len(), truncated: tokens.truncated })
}
