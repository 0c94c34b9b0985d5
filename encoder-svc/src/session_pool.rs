//! One worker thread a core, each with a session of its own; and one with a session of all cores for a text that is
//! alone. All are fed from one queue.
//!
//! Measured on CPU: sessions of one thread that run each text alone are within 5 % of the best batching, at the
//! lowest latency, and a text's vector does not depend on its company (see ARCHITECTURE.md). An online text that is alone
//! among online texts is somebody's who waits: it gets all cores, at once, even where bulk texts have them. For that the
//! other workers are niced, so that the system's own scheduler takes the cores from them: at 12, where both want the same
//! core, they get 6 % of it. It ranks them below the threads that serve calls as well, so that refusals do not wait for
//! texts. Measured on two cores with bulk saturating them, p99 of an online text in median runs of one: 3.7 without, 3.2 at
//! 10, 2.2 at 12 (and spins as in [`session`](crate::session)), 2.0 at 15.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::admission::Admission;
use crate::queue::{Class, Encoded, Entry, Queue, Worker};
use crate::session::EncoderSession;
use crate::stage_metrics::StageMetrics;
use crate::tokenizer::{TextTokenizer, Tokens};

/// The workers; dropping it ends them, each after the text it is at.
pub struct SessionPool {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
}

/// The sessions of a pool.
pub struct Sessions {
    /// Of the workers of one thread, see [`EncoderSettings`](crate::EncoderSettings).
    pub niceness: u8,
    /// One thread each.
    pub narrow: Vec<EncoderSession>,
    /// All cores, for a text that is alone.
    pub wide: EncoderSession,
}

impl SessionPool {
    /// Starts a worker for each session.
    pub fn start(
        sessions: Sessions,
        tokenizer: &TextTokenizer,
        queue: &Arc<Queue>,
        admission: &Arc<Admission>,
        stages: &StageMetrics,
    ) -> std::io::Result<Self> {
        let mut pool = Self { queue: queue.clone(), workers: Vec::with_capacity(sessions.narrow.len() + 1) };
        let niceness = sessions.niceness;
        let narrow = sessions.narrow.into_iter().map(|session| (Worker::Core, session));
        for (index, (kind, session)) in narrow.chain([(Worker::Lone, sessions.wide)]).enumerate() {
            let name = match kind {
                Worker::Core => format!("session-{index}"),
                Worker::Lone => "session-lone".to_owned(),
            };
            let mut worker = SessionWorker {
                kind,
                session,
                tokenizer: tokenizer.clone(),
                admission: admission.clone(),
                stages: stages.clone(),
            };
            let queue = queue.clone();
            pool.workers
                .push(std::thread::Builder::new().name(name).spawn(move || worker.work(&queue, niceness))?);
        }
        Ok(pool)
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

struct SessionWorker {
    kind: Worker,
    session: EncoderSession,
    tokenizer: TextTokenizer,
    admission: Arc<Admission>,
    stages: StageMetrics,
}

impl SessionWorker {
    fn work(&mut self, queue: &Queue, niceness: u8) {
        if self.kind == Worker::Core
            && niceness > 0
            && let Err(error) = nice(niceness.into())
        {
            tracing::warn!(%error, "workers keep their priority: online texts have to wait for bulk texts");
        }
        let mut free = Instant::now();
        loop {
            // While there is always a next text, the time between two counts as the text's own: at an answer the threads that
            // serve calls take the core from a worker, and what that takes is a part of what texts take.
            let (entry, class) = match queue.try_pop(self.kind) {
                Some(next) => next,
                None => match queue.pop(self.kind) {
                    Some(next) => {
                        free = Instant::now();
                        next
                    }
                    None => return,
                },
            };
            let text_bytes = entry.text.len();
            let ran = self.answer(entry, class);
            queue.done(class);
            let begin = std::mem::replace(&mut free, Instant::now());
            if ran && self.kind == Worker::Core {
                self.admission.costs().learn(text_bytes, free.duration_since(begin));
            }
        }
    }

    /// Whether the text was run.
    fn answer(&mut self, entry: Entry, class: Class) -> bool {
        let Some(waited) = entry.waited(class, &self.stages) else { return false };
        let stage = tracing::debug_span!(
            parent: &entry.span,
            "session",
            waited_ms = waited.as_secs_f64() * 1e3,
            tokens = tracing::field::Empty
        );
        let _stage = stage.enter();
        let in_time = entry.in_time(&self.stages);
        let ran = in_time.is_ok();
        let result = in_time.and_then(|()| {
            // A defect met by one text must not take the session from all others.
            catch_unwind(AssertUnwindSafe(|| self.encode(&entry.text)))
                .unwrap_or_else(|_| Err("panicked".to_owned()))
                .map_err(|reason| entry.failed(&reason))
        });
        // The caller may have left meanwhile.
        let _ = entry.reply.send(result);
        ran
    }

    fn encode(&mut self, text: &str) -> Result<Encoded, String> {
        let begin = Instant::now();
        let tokens = tracing::debug_span!("tokenize").in_scope(|| self.tokenizer.tokenize(text))?;
        let tokenized = begin.elapsed();
        self.stages.tokenized(tokens.ids.len(), tokenized);
        let encoded = tracing::debug_span!("run").in_scope(|| run(&mut self.session, &tokens))?;
        self.stages.ran(self.kind, begin.elapsed().saturating_sub(tokenized));
        tracing::Span::current().record("tokens", encoded.token_count);
        Ok(encoded)
    }
}

/// Lowers the priority of the calling thread.
#[cfg(target_os = "linux")]
fn nice(niceness: i32) -> std::io::Result<()> {
    // Linux takes the calling thread for the process here, see setpriority(2).
    let before = rustix::process::getpriority_process(None)?;
    Ok(rustix::process::setpriority_process(None, before + niceness)?)
}

/// Elsewhere priorities are those of whole processes.
#[cfg(not(target_os = "linux"))]
fn nice(_niceness: i32) -> std::io::Result<()> {
    Ok(())
}

/// The vector of a text's tokens.
fn run(session: &mut EncoderSession, tokens: &Tokens) -> Result<Encoded, String> {
    let vector = session.run(tokens).map_err(|error| error.to_string())?;
    Ok(Encoded { vector, token_count: tokens.ids.len(), truncated: tokens.truncated })
}

/// The vector of one text.
pub(crate) fn encode(
    session: &mut EncoderSession,
    tokenizer: &TextTokenizer,
    text: &str,
) -> Result<Encoded, String> {
    run(session, &tokenizer.tokenize(text)?)
}
