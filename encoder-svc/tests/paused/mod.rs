//! The real queue and admission on a paused clock, with workers that spend simulated time on each
//! text.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use encoder_svc::bundle::Description;
use encoder_svc::calibration::{AllCoreWorker, Calibration};
use encoder_svc::config::EncoderConfig;
use encoder_svc::scheduler::admission::{Admission, Permit};
use encoder_svc::scheduler::cost::CostModel;
use encoder_svc::scheduler::entry::{Class, Entry, Reply};
use encoder_svc::scheduler::limits::QueueLimits;
use encoder_svc::scheduler::queue::{Next, Queue};
use encoder_svc::scheduler::workers::{Worker, Workers};
use encoder_svc::{Encoder, EncoderSettings};
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

/// The milliseconds that the text of an entry takes at the speed of the start. `number` decides the
/// difference from the average of its length.
fn milliseconds_of(entry: &Entry, number: usize) -> f64 {
    let spread = 0.8 + 0.4 * (number as f64 * 0.618_033_988_75).fract();
    let costs = CostModel::new(256, &text(), RUN);
    spread * costs.micros(entry.share.units as f64) / 1e3
}

/// The queue, admission, and one simulated worker for each session.
#[derive(Clone)]
pub struct Scheduler {
    pub queue: Arc<Queue>,
    pub admission: Arc<Admission>,
    /// The units that ran, for each caller.
    pub ran: Arc<Mutex<HashMap<CallerId, u64>>>,
    pub texts_run: Arc<std::sync::atomic::AtomicUsize>,
    /// The speed of the machine at a time after its start; `None` if every text takes its estimated
    /// time.
    pub speed: Option<fn(Duration) -> f64>,
    pub begin: Instant,
}

impl Scheduler {
    pub fn start(longest: QueueLimits) -> Self {
        Self::start_on(None, longest)
    }

    /// Starts on a machine whose speed changes: 1 is the speed at startup, and 0 a stall. Texts then
    /// take up to a fifth more or less than others of their length, and the cost model learns.
    pub fn start_on(speed: Option<fn(Duration) -> f64>, longest: QueueLimits) -> Self {
        let costs = CostModel::new(256, &text(), RUN);
        let admission = Arc::new(Admission::new(costs, SESSIONS, longest, &Metrics::default()));
        let scheduler = Self {
            queue: Arc::default(),
            admission,
            ran: Arc::default(),
            texts_run: Arc::default(),
            speed,
            begin: Instant::now(),
        };
        for _ in 0..SESSIONS {
            tokio::spawn(scheduler.clone().work(Worker::SingleCore));
        }
        scheduler
    }

    /// Adds the reserved worker, which runs a text on one core.
    pub fn with_reserved_worker(self) -> Self {
        tokio::spawn(self.clone().work(Worker::Reserved));
        self
    }

    async fn work(self, worker: Worker) {
        // What the last step of a run did for the next one, in milliseconds of work.
        let mut ahead = 0.0;
        loop {
            let Next::Run(entry, class) = self.queue.poll(worker) else {
                sleep(Duration::from_micros(100)).await;
                continue;
            };
            if !entry.is_abandoned() {
                let result = if entry.deadline.has_passed() {
                    Err(ApiError::DeadlineExceeded)
                } else {
                    let number = self.texts_run.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    match self.speed {
                        None => {
                            let micros = self.admission.costs().micros(entry.share.units as f64);
                            sleep(Duration::from_micros(micros.round() as u64)).await;
                        }
                        Some(speed) => {
                            let begin = Instant::now();
                            let mut left = milliseconds_of(&entry, number) - ahead;
                            while left > 0.0 {
                                sleep(milliseconds(1)).await;
                                left -= speed(self.begin.elapsed());
                            }
                            ahead = -left;
                            self.admission.costs().learn(&[entry.text.len()], begin.elapsed());
                        }
                    }
                    *self.ran.lock().unwrap().entry(entry.share.caller).or_default() += entry.share.units;
                    Ok(Reply { vector: Vec::new(), token_count: entry.text.len(), truncated: false })
                };
                let _ = entry.reply.send(result);
            }
            self.queue.done(worker, class, 1);
        }
    }

    /// An encoder with the default settings, but for `change`, whose texts these workers run.
    pub fn encoder(&self, change: impl FnOnce(&mut EncoderSettings)) -> Encoder {
        let mut settings = EncoderSettings::default();
        change(&mut settings);
        let config = EncoderConfig::try_from(settings).unwrap();
        let description = Description {
            id: "paused".to_owned(),
            version: "1".to_owned(),
            fingerprint: "0".repeat(64),
            dimension: 0,
            max_tokens: 256,
        };
        let calibration = Calibration::new(RUN, None, AllCoreWorker::Off);
        let admission = self.admission.clone();
        Encoder::new(description, calibration, admission, self.clone(), &config, &Metrics::default())
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
        if outcome.is_ok() {
            permit.complete();
        }
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

impl Workers for Scheduler {
    fn push(&self, class: Class, entry: Entry) {
        self.queue.push(class, entry.share, entry);
    }
}
