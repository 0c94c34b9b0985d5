//! The real queue and admission on a paused clock, with workers that spend simulated time on each
//! text.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use encoder_svc::scheduler::admission::{Admission, Permit};
use encoder_svc::scheduler::cost::CostModel;
use encoder_svc::scheduler::entry::{Class, Entry, Reply};
use encoder_svc::scheduler::limits::QueueLimits;
use encoder_svc::scheduler::queue::Queue;
use encoder_svc::scheduler::workers::Worker;
use service_kit::{ApiError, CallerId, Deadline, Metrics};
use tokio::time::{Instant, sleep};

pub const SESSIONS: usize = 2;
/// The cost of the text of [`text`].
pub const RUN: Duration = Duration::from_millis(10);

pub fn text() -> String {
    "a".repeat(360)
}

pub fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub fn longest(online: u64, bulk: u64) -> QueueLimits {
    QueueLimits { online: milliseconds(online), bulk: milliseconds(bulk) }
}

/// The queue, admission, and one simulated worker for each session.
#[derive(Clone)]
pub struct Scheduler {
    pub queue: Arc<Queue>,
    pub admission: Arc<Admission>,
    /// The units that ran, for each caller.
    pub ran: Arc<Mutex<HashMap<CallerId, u64>>>,
    pub texts_run: Arc<std::sync::atomic::AtomicUsize>,
}

impl Scheduler {
    pub fn start(longest: QueueLimits) -> Self {
        let costs = CostModel::new(256, &text(), RUN);
        let admission = Arc::new(Admission::new(costs, SESSIONS, longest, &Metrics::default()));
        let scheduler =
            Self { queue: Arc::default(), admission, ran: Arc::default(), texts_run: Arc::default() };
        for _ in 0..SESSIONS {
            tokio::spawn(scheduler.clone().work());
        }
        scheduler
    }

    async fn work(self) {
        loop {
            let Some((entry, class)) = self.queue.try_pop(Worker::SingleCore) else {
                sleep(Duration::from_micros(100)).await;
                continue;
            };
            if !entry.is_abandoned() {
                let result = if entry.deadline.has_passed() {
                    Err(ApiError::DeadlineExceeded)
                } else {
                    self.texts_run.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let micros = self.admission.costs().micros(entry.share.units as f64);
                    sleep(Duration::from_micros(micros.round() as u64)).await;
                    *self.ran.lock().unwrap().entry(entry.share.caller).or_default() += entry.share.units;
                    Ok(Reply { vector: Vec::new(), token_count: entry.text.len(), truncated: false })
                };
                let _ = entry.reply.send(result);
            }
            self.queue.done(class, 1);
        }
    }

    pub async fn run(
        &self,
        permit: Permit,
        text: String,
        class: Class,
        deadline: Deadline,
    ) -> Result<Reply, ApiError> {
        let (entry, reply) = Entry::new(text, permit.share(), deadline);
        self.queue.push(class, entry.share, entry);
        let outcome = deadline.bound(reply).await?.unwrap();
        drop(permit);
        outcome
    }

    /// Makes one unary call of one text. Returns how long it took.
    pub async fn call(&self, class: Class, deadline: Deadline) -> (Result<Reply, ApiError>, Duration) {
        let begin = Instant::now();
        let outcome = self.batch(vec![text()], class, CallerId::UNKNOWN, deadline).await;
        (outcome.map(|mut replies| replies.pop().unwrap()), begin.elapsed())
    }

    /// Makes one unary call.
    pub async fn batch(
        &self,
        texts: Vec<String>,
        class: Class,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<Vec<Reply>, ApiError> {
        let borrowed: Vec<_> = texts.iter().map(String::as_str).collect();
        let permits = self.admission.admit(&borrowed, class, caller, deadline)?;
        let runs =
            permits.into_iter().zip(texts).map(|(permit, text)| self.run(permit, text, class, deadline));
        futures_util::future::try_join_all(runs).await
    }

    /// Sends one text of a stream.
    pub async fn item(
        &self,
        text: String,
        class: Class,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<Reply, ApiError> {
        let permit = self.admission.admit_waiting(&text, class, caller, deadline).await?;
        self.run(permit, text, class, deadline).await
    }
}
