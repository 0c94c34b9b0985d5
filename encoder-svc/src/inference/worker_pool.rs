//! One worker thread a core, each with a session of its own; and one with a session of all cores for a text that is
//! alone. All are fed from one queue. On a device that gains from it a worker takes several texts at once (see
//! [`micro_batch`](crate::scheduler::micro_batch)), and there are as many workers as it takes to keep the device at work.
//!
//! Measured on CPU: sessions of one thread that run each text alone are within 5 % of the best batching, at the
//! lowest latency, and a text's vector does not depend on its company (see ARCHITECTURE.md). An online text that is alone
//! among online texts is somebody's who waits: it gets all cores, at once, even where bulk texts have them. For that the
//! other workers are niced, so that the system's own scheduler takes the cores from them: at 12, where both want the same
//! core, they get 6 % of it. It ranks them below the threads that serve calls as well, so that refusals do not wait for
//! texts. Measured on two cores with bulk saturating them, p99 of an online text in median runs of one: 3.7 without, 3.2 at
//! 10, 2.2 at 12 (and spins as in [`session`](crate::inference::session)), 2.0 at 15.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::Handle;
use tracing::Span;

use crate::inference::replies::{Answers, longest_keep};
use crate::inference::session::EncoderSession;
use crate::metrics::StageMetrics;
use crate::scheduler::admission::Admission;
use crate::scheduler::micro_batch::{BatchRule, LOOK_AHEAD};
use crate::scheduler::queue::{Class, Encoded, Entry, Queue, Worker};
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
    /// One thread each, or one run at a time on a device.
    pub narrow: Vec<EncoderSession>,
    /// All cores, for a text that is alone; none on a device.
    pub wide: Option<EncoderSession>,
    /// What the workers take at once; `None` for each text alone. A lone text is alone in any case.
    pub batches: Option<BatchRule>,
}

impl SessionPool {
    /// Starts a worker for each session; calls are served on the runtime in which this is called.
    pub fn start(
        sessions: Sessions,
        tokenizer: &TextTokenizer,
        queue: &Arc<Queue>,
        admission: &Arc<Admission>,
        stages: &StageMetrics,
    ) -> std::io::Result<Self> {
        let mut pool = Self { queue: queue.clone(), workers: Vec::with_capacity(sessions.narrow.len() + 1) };
        let Sessions { niceness, narrow, wide, batches } = sessions;
        let workers = narrow.len();
        let narrow = narrow.into_iter().map(|session| (Worker::Core, session));
        let wide = wide.map(|session| (Worker::Lone, session));
        for (index, (kind, session)) in narrow.chain(wide).enumerate() {
            let name = match kind {
                Worker::Core => format!("session-{index}"),
                Worker::Lone => "session-lone".to_owned(),
            };
            let mut worker = SessionWorker {
                kind,
                session,
                batches: batches.filter(|_| kind == Worker::Core),
                tokenizer: tokenizer.clone(),
                admission: admission.clone(),
                stages: stages.clone(),
                answers: Answers::new(Handle::current(), workers),
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
    batches: Option<BatchRule>,
    tokenizer: TextTokenizer,
    admission: Arc<Admission>,
    stages: StageMetrics,
    answers: Answers,
}

/// An entry whose turn has come.
struct Turn {
    entry: Entry,
    /// From here to the answer.
    stage: Span,
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
            let (first, class) = if let Some(next) = queue.try_pop(self.kind) {
                self.answers.before_run(|| queue.len());
                next
            } else {
                self.answers.hand_over();
                let Some(next) = queue.pop(self.kind) else { return };
                free = Instant::now();
                next
            };
            let company = self.company(queue, &first, class);
            let entries = 1 + company.len();
            let ran = self.answer(std::iter::once(first).chain(company), class);
            queue.done(class, entries);
            let begin = std::mem::replace(&mut free, Instant::now());
            if self.kind == Worker::Core {
                self.admission.costs().learn(&ran, free.duration_since(begin));
            }
        }
    }

    /// What runs together with an entry.
    fn company(&self, queue: &Queue, first: &Entry, class: Class) -> Vec<Entry> {
        let Some(rule) = self.batches else { return Vec::new() };
        let mut batch = rule.begin(first.text.len());
        if !batch.has_room() {
            return Vec::new();
        }
        queue.company(class, LOOK_AHEAD, |entry| batch.takes(entry.text.len()))
    }

    /// Runs and answers entries, together; how many bytes each of those had that were run.
    fn answer(&mut self, entries: impl Iterator<Item = Entry>, class: Class) -> Vec<usize> {
        let (turns, tokens): (Vec<_>, Vec<_>) = entries.filter_map(|entry| self.begin(entry, class)).unzip();
        let bytes = turns.iter().map(|turn| turn.entry.text.len()).collect();
        let results = match self.run(&turns, &tokens) {
            Ok(vectors) => vectors.into_iter().map(Ok).collect(),
            // One text's defect is not its company's.
            Err(_) if turns.len() > 1 => self.run_each(&turns, &tokens),
            Err(reason) => vec![Err(reason)],
        };
        let longest_keep = longest_keep(self.admission.costs());
        for ((Turn { entry, stage: _stage }, tokens), result) in turns.into_iter().zip(tokens).zip(results) {
            let (token_count, truncated) = (tokens.ids.len(), tokens.truncated);
            let result = result
                .map(|vector| Encoded { vector, token_count, truncated })
                .map_err(|reason| entry.failed(&reason));
            self.answers.give(entry, class, result, longest_keep);
        }
        bytes
    }

    /// What is done with an entry before its run; `None` where it is not to be run, and is answered.
    fn begin(&self, entry: Entry, class: Class) -> Option<(Turn, Tokens)> {
        let waited = entry.waited(class, &self.stages)?;
        let stage = tracing::debug_span!(
            parent: &entry.span,
            "session",
            waited_ms = waited.as_secs_f64() * 1e3,
            tokens = tracing::field::Empty
        );
        let entered = stage.enter();
        let tokens = entry.in_time(&self.stages).and_then(|()| {
            let begin = Instant::now();
            let tokens = tracing::debug_span!("tokenize")
                .in_scope(|| unless_it_panics(|| self.tokenizer.tokenize(&entry.text)))
                .map_err(|reason| entry.failed(&reason))?;
            self.stages.tokenized(tokens.ids.len(), begin.elapsed());
            stage.record("tokens", tokens.ids.len());
            Ok(tokens)
        });
        drop(entered);
        match tokens {
            Ok(tokens) => Some((Turn { entry, stage }, tokens)),
            Err(error) => {
                let _ = entry.reply.send(Err(error));
                None
            }
        }
    }

    fn run(&mut self, turns: &[Turn], tokens: &[Tokens]) -> Result<Vec<Vec<f32>>, String> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let _runs: Vec<_> = turns
            .iter()
            .map(|turn| tracing::debug_span!(parent: &turn.stage, "run", texts = tokens.len()))
            .collect();
        let begin = Instant::now();
        let vectors = unless_it_panics(|| self.session.run_all(tokens).map_err(|error| error.to_string()))?;
        self.stages.ran(self.kind, tokens.len(), begin.elapsed());
        Ok(vectors)
    }

    fn run_each(&mut self, turns: &[Turn], tokens: &[Tokens]) -> Vec<Result<Vec<f32>, String>> {
        let alone = turns.chunks(1).zip(tokens.chunks(1));
        alone
            .map(|(turn, tokens)| {
                let vectors = self.run(turn, tokens)?;
                vectors.into_iter().next().ok_or_else(|| "no vector".to_owned())
            })
            .collect()
    }
}

/// A defect met by one text must not take the session from all others.
fn unless_it_panics<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("panicked".to_owned()))
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
