//! The workers of a simulated encoder: tasks that take entries from the real queue and spend
//! simulated time on each text.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use encoder_svc::scheduler::admission::Admission;
use encoder_svc::scheduler::entry::{Class, Entry, Reply, Share};
use encoder_svc::scheduler::workers::{Worker, Workers};
use service_kit::{ApiError, CallerId};
use tokio::time::Instant;

use crate::sabotage::Sabotage;
use crate::task_queue::TaskQueue;
use crate::truth;
use crate::world::World;

/// The model that a worker runs: it turns a text into a reply.
pub(crate) struct SimulatedModel {
    pub(crate) world: Arc<World>,
    pub(crate) index: usize,
    pub(crate) fingerprint: String,
}

impl SimulatedModel {
    async fn run(&self, text: &str, worker: Worker) -> Reply {
        let cores = if worker == Worker::Reserved { 2 } else { 1 };
        let slow = self.world.encoders[self.index].slow.load(Ordering::Relaxed);
        tokio::time::sleep(truth::cost(text) * slow / cores).await;
        let sabotage = self.world.plan.sabotage;
        if sabotage == Some(Sabotage::HangRun) && text.len().is_multiple_of(5) {
            std::future::pending::<()>().await;
        }
        let (token_count, truncated) = truth::tokens(text);
        let fingerprint = match sabotage {
            Some(Sabotage::ForeignVectors) => &truth::fingerprint(77),
            _ => &self.fingerprint,
        };
        self.world.ledger.count("text:run");
        Reply { vector: truth::vector(fingerprint, text), token_count, truncated }
    }
}

/// Workers that are tasks of the current runtime.
pub(crate) struct TaskWorkers {
    queue: Arc<TaskQueue>,
    sabotage: Option<Sabotage>,
}

impl TaskWorkers {
    /// Starts `sessions` single-core workers and the reserved worker, which uses all cores.
    pub(crate) fn start(model: SimulatedModel, sessions: usize, admission: &Arc<Admission>) -> Self {
        let sabotage = model.world.plan.sabotage;
        let (queue, model) = (Arc::new(TaskQueue::new(Entry::is_abandoned)), Arc::new(model));
        for worker in std::iter::repeat_n(Worker::SingleCore, sessions).chain([Worker::Reserved]) {
            let (queue, model, admission) = (queue.clone(), model.clone(), admission.clone());
            tokio::spawn(async move {
                while let Some((entry, class)) = queue.next(worker).await {
                    if !entry.is_abandoned() {
                        encode(&model, worker, entry, &admission).await;
                    }
                    queue.done(worker, class);
                }
            });
        }
        Self { queue, sabotage }
    }

    pub(crate) fn queue(&self) -> Weak<TaskQueue> {
        Arc::downgrade(&self.queue)
    }
}

impl Workers for TaskWorkers {
    fn push(&self, class: Class, entry: Entry) {
        let caller = match self.sabotage {
            Some(Sabotage::OneQueue) => CallerId::UNKNOWN,
            _ => entry.share.caller,
        };
        self.queue.push(class, Share { caller, ..entry.share }, entry);
    }
}

impl Drop for TaskWorkers {
    fn drop(&mut self) {
        self.queue.close();
    }
}

async fn encode(model: &SimulatedModel, worker: Worker, entry: Entry, admission: &Admission) {
    let result = if entry.deadline.has_passed() {
        Err(ApiError::DeadlineExceeded)
    } else {
        let begin = Instant::now();
        let reply = model.run(&entry.text, worker).await;
        if worker == Worker::SingleCore {
            admission.costs().learn(&[entry.text.len()], begin.elapsed());
        }
        Ok(reply)
    };
    // This fails if the caller has left, which does not matter here.
    let _ = entry.reply.send(result);
}
