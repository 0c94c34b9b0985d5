//! One worker thread a core, each with a session of its own, all fed from one queue.
//!
//! Measured on CPU: sessions of one thread that run each text alone are within 5 % of the best batching, at the
//! lowest latency, and a text's vector does not depend on its company (see ARCHITECTURE.md).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use service_kit::ApiError;

use crate::queue::{Encoded, Queue};
use crate::session::EncoderSession;
use crate::tokenizer::TextTokenizer;

/// The workers; dropping it ends them, each after the text it is at.
pub struct SessionPool {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
}

impl SessionPool {
    /// Starts a worker for each session.
    pub fn start(
        sessions: Vec<EncoderSession>,
        tokenizer: &TextTokenizer,
        queue: &Arc<Queue>,
    ) -> std::io::Result<Self> {
        let mut pool = Self { queue: queue.clone(), workers: Vec::with_capacity(sessions.len()) };
        for (index, session) in sessions.into_iter().enumerate() {
            let (queue, tokenizer) = (queue.clone(), tokenizer.clone());
            let worker = std::thread::Builder::new()
                .name(format!("session-{index}"))
                .spawn(move || work(session, &tokenizer, &queue))?;
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

fn work(mut session: EncoderSession, tokenizer: &TextTokenizer, queue: &Queue) {
    while let Some(entry) = queue.pop() {
        if entry.is_abandoned() {
            continue;
        }
        let result = if entry.deadline.has_passed() {
            Err(ApiError::DeadlineExceeded)
        } else {
            // A defect met by one text must not take the session from all others.
            catch_unwind(AssertUnwindSafe(|| encode(&mut session, tokenizer, &entry.text)))
                .unwrap_or_else(|_| Err("panicked".to_owned()))
                .map_err(|reason| {
                    tracing::error!(reason, bytes = entry.text.len(), "encoding a text failed");
                    ApiError::Internal { message: "encoding the text failed".to_owned() }
                })
        };
        // The place is free before the caller knows, so that a caller who waits for the answer finds it free.
        drop(entry.place);
        // The caller may have left meanwhile.
        let _ = entry.reply.send(result);
    }
}

fn encode(session: &mut EncoderSession, tokenizer: &TextTokenizer, text: &str) -> Result<Encoded, String> {
    let tokens = tokenizer.tokenize(text)?;
    let vector = session.run(&tokens.ids).map_err(|error| error.to_string())?;
    Ok(Encoded { vector, token_count: tokens.ids.len(), truncated: tokens.truncated })
}
