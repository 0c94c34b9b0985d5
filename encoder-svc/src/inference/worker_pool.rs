//! Worker threads: one for each core with a session of its own, and one that is reserved for a lone
//! text.
//!
//! All workers take entries from one queue. On a CPU each text runs alone: its vector then does not
//! depend on other texts. On a device that gains from batches, a worker takes several texts at once
//! (see [`micro_batch`](crate::scheduler::micro_batch)), and the pool has enough workers to keep
//! the device busy.
//!
//! The reserved worker takes an online text if no other online text waits or runs, because a person
//! is waiting for it. The run starts at once, even while bulk texts run; see
//! `inference/niceness.rs`. It uses all cores if that is faster (see
//! [`calibration`](crate::calibration) and `inference/core_choice.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use service_kit::ApiError;
use tokio::runtime::Handle;
use tracing::Span;

use crate::inference::core_choice::CoreChoice;
use crate::inference::niceness::lower_priority;
use crate::inference::replies::{GroupedReplies, max_delay};
use crate::inference::session::EncoderSession;
use crate::metrics::{Cores, StageMetrics};
use crate::scheduler::admission::Admission;
use crate::scheduler::entry::{Class, Entry, Reply};
use crate::scheduler::micro_batch::{BatchRule, LOOK_AHEAD};
use crate::scheduler::queue::Queue;
use crate::scheduler::workers::{Worker, Workers};
use crate::tokenizer::TextTokenizer;
use crate::tokenizer::tokens::Tokens;

/// Workers that are threads. Dropping the pool ends each after its current run.
pub struct WorkerPool {
    queue: Arc<Queue>,
    stages: StageMetrics,
    threads: Vec<JoinHandle<()>>,
}

/// The sessions of a pool, and how they are used.
pub struct Sessions {
    /// The niceness of single-core workers, 0 to 19.
    pub niceness: u8,
    /// One session for each single-core worker. On a GPU, each session executes one run at a time.
    pub single_core: Vec<EncoderSession>,
    /// The sessions of the reserved worker; `None` on a GPU.
    pub reserved: Option<ReservedSessions>,
    /// The batches of single-core workers; `None` if each text runs alone.
    pub batches: Option<BatchRule>,
}

/// The sessions of the reserved worker.
pub struct ReservedSessions {
    /// The session to begin with.
    pub(crate) session: EncoderSession,
    /// Its cores.
    pub(crate) cores: Cores,
    /// The session on the other cores, and the choice between the two; `None` if it is fixed.
    pub(crate) other: Option<(EncoderSession, CoreChoice)>,
}

impl WorkerPool {
    /// Starts a worker for each session. Replies are sent from the current Tokio runtime.
    pub fn start(
        sessions: Sessions,
        tokenizer: &TextTokenizer,
        admission: &Arc<Admission>,
        stages: &StageMetrics,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let Sessions { niceness, single_core, reserved, batches } = sessions;
        let workers = single_core.len();
        let threads = Vec::with_capacity(workers + 1);
        let mut pool = Self { queue: queue.clone(), stages: stages.clone(), threads };
        let single_core =
            single_core.into_iter().map(|session| (Worker::SingleCore, session, Cores::One, None));
        let reserved = reserved.map(|reserved| {
            let ReservedSessions { session, cores, other } = reserved;
            stages.chose(cores);
            (Worker::Reserved, session, cores, other)
        });
        for (index, (kind, session, cores, other)) in single_core.chain(reserved).enumerate() {
            let (name, niceness, batches) = match kind {
                Worker::SingleCore => (format!("worker-{index}"), niceness, batches),
                Worker::Reserved => ("worker-reserved".to_owned(), 0, None),
            };
            let mut worker = SessionWorker {
                kind,
                cores,
                session,
                other,
                batches,
                tokenizer: tokenizer.clone(),
                queue: queue.clone(),
                admission: admission.clone(),
                stages: stages.clone(),
                replies: GroupedReplies::new(Handle::current(), workers),
            };
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                lower_priority(niceness);
                worker.work();
            });
            pool.threads.push(thread?);
        }
        Ok(pool)
    }
}

impl Workers for WorkerPool {
    fn push(&self, class: Class, entry: Entry) {
        for left in self.queue.push(class, entry.share, entry) {
            self.stages.dropped(left.deadline);
        }
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A worker catches panics of its runs, so there is no error to report.
            let _ = thread.join();
        }
    }
}

struct SessionWorker {
    kind: Worker,
    /// The cores of `session`.
    cores: Cores,
    session: EncoderSession,
    /// The session on the other cores, and the choice between the two.
    other: Option<(EncoderSession, CoreChoice)>,
    batches: Option<BatchRule>,
    tokenizer: TextTokenizer,
    queue: Arc<Queue>,
    admission: Arc<Admission>,
    stages: StageMetrics,
    replies: GroupedReplies,
}

/// An entry that is about to run.
struct Started {
    entry: Entry,
    /// Lasts until the reply is sent.
    span: Span,
}

impl SessionWorker {
    fn work(&mut self) {
        let mut free = Instant::now();
        loop {
            // While entries wait, the time from one run to the next counts as the cost of the
            // texts. It includes the time of threads that take the core from this worker when
            // replies are sent.
            let (first, class) = if let Some(next) = self.queue.try_pop(self.kind) {
                self.replies.before_run(|| self.queue.waiting());
                next
            } else {
                self.replies.flush();
                let Some(next) = self.queue.pop(self.kind) else { return };
                free = Instant::now();
                next
            };
            self.choose_cores();
            let more = self.rest_of_batch(&first, class);
            let ran = self.encode(first, more, class);
            let begin = std::mem::replace(&mut free, Instant::now());
            if self.kind == Worker::SingleCore {
                self.admission.costs().learn(&ran, free.duration_since(begin));
            }
        }
    }

    /// Makes `session` the one on the cores of the next run.
    fn choose_cores(&mut self) {
        if let Some((other, choice)) = &mut self.other {
            let cores = choice.next(self.queue.bulk_runs());
            if cores != self.cores {
                std::mem::swap(&mut self.session, other);
                self.cores = cores;
            }
        }
    }

    /// Takes the entries that run together with `first`.
    fn rest_of_batch(&self, first: &Entry, class: Class) -> Vec<Entry> {
        let Some(rule) = self.batches else { return Vec::new() };
        let mut batch = rule.begin(first.text.len());
        if !batch.can_grow() {
            return Vec::new();
        }
        self.queue.pop_more(class, LOOK_AHEAD, |entry| batch.takes(entry.text.len()))
    }

    /// Runs entries as one batch and replies to each. Returns the lengths in bytes of the texts
    /// that ran.
    fn encode(&mut self, first: Entry, more: Vec<Entry>, class: Class) -> Vec<usize> {
        let taken = 1 + more.len();
        let entries = std::iter::once(first).chain(more);
        let (started, tokens): (Vec<_>, Vec<_>) =
            entries.filter_map(|entry| self.begin(entry, class)).unzip();
        let bytes = started.iter().map(|started| started.entry.text.len()).collect();
        let results = match self.run(&started, &tokens) {
            Ok(vectors) => vectors.into_iter().map(Ok).collect(),
            // One bad text must not fail the others of its batch.
            Err(_) if started.len() > 1 => self.run_each(&started, &tokens),
            Err(reason) => vec![Err(reason)],
        };
        self.queue.done(self.kind, class, taken);
        let max_delay = max_delay(self.admission.costs());
        for ((Started { entry, span: _span }, tokens), result) in started.into_iter().zip(tokens).zip(results)
        {
            let (token_count, truncated) = (tokens.ids.len(), tokens.truncated);
            let result = result
                .map(|vector| Reply { vector, token_count, truncated })
                .map_err(|reason| failed(&entry, &reason));
            self.replies.send(entry, class, result, max_delay);
        }
        bytes
    }

    /// Tokenizes an entry. Returns `None` if it must not run: its caller has left, or an error was
    /// sent.
    fn begin(&self, entry: Entry, class: Class) -> Option<(Started, Tokens)> {
        if entry.is_abandoned() {
            self.stages.dropped(entry.deadline);
            return None;
        }
        let waited = entry.since.elapsed();
        self.stages.waited(class, waited);
        let span = tracing::debug_span!(
            parent: &entry.span,
            "session",
            waited_ms = waited.as_secs_f64() * 1e3,
            tokens = tracing::field::Empty
        );
        let tokens = span.in_scope(|| self.tokenize(&entry));
        match tokens {
            Ok(tokens) => {
                span.record("tokens", tokens.ids.len());
                Some((Started { entry, span }, tokens))
            }
            Err(error) => {
                let _ = entry.reply.send(Err(error));
                None
            }
        }
    }

    fn tokenize(&self, entry: &Entry) -> Result<Tokens, ApiError> {
        if entry.deadline.has_passed() {
            self.stages.dropped(entry.deadline);
            return Err(ApiError::DeadlineExceeded);
        }
        let begin = Instant::now();
        let tokens = tracing::debug_span!("tokenize")
            .in_scope(|| catch_panic(|| self.tokenizer.tokenize(&entry.text)))
            .map_err(|reason| failed(entry, &reason))?;
        self.stages.tokenized(tokens.ids.len(), begin.elapsed());
        Ok(tokens)
    }

    fn run(&mut self, started: &[Started], tokens: &[Tokens]) -> Result<Vec<Vec<f32>>, String> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let _spans: Vec<_> = started
            .iter()
            .map(|started| tracing::debug_span!(parent: &started.span, "run", texts = tokens.len()))
            .collect();
        let begin = Instant::now();
        let vectors = catch_panic(|| self.session.run_all(tokens).map_err(|error| error.to_string()))?;
        let took = begin.elapsed();
        self.stages.ran(self.cores, tokens.len(), took);
        if let Some((_, choice)) = &mut self.other {
            let tokens = tokens.iter().map(|tokens| tokens.ids.len()).sum();
            if let Some((cores, beside_bulk)) = choice.learn(self.cores, tokens, took) {
                let all_cores = cores == Cores::All;
                tracing::info!(all_cores, beside_bulk, "changed the cores of a lone text");
                if !beside_bulk {
                    self.stages.chose(cores);
                }
            }
        }
        Ok(vectors)
    }

    fn run_each(&mut self, started: &[Started], tokens: &[Tokens]) -> Vec<Result<Vec<f32>, String>> {
        let alone = started.chunks(1).zip(tokens.chunks(1));
        alone
            .map(|(started, tokens)| {
                let vectors = self.run(started, tokens)?;
                vectors.into_iter().next().ok_or_else(|| "no vector".to_owned())
            })
            .collect()
    }
}

/// Logs why a run failed. The reason is not part of the error that the client gets.
fn failed(entry: &Entry, reason: &str) -> ApiError {
    tracing::error!(reason, bytes = entry.text.len(), "encoding a text failed");
    ApiError::Internal { message: "encoding the text failed".to_owned() }
}

/// Turns a panic into an error, so that one text cannot end the worker.
fn catch_panic<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("panicked".to_owned()))
}
