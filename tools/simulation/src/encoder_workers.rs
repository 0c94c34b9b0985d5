//! The workers of a simulated encoder: tasks that take entries off the real queue, for which a text
//! costs simulated time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use encoder_svc::scheduler::admission::Admission;
use encoder_svc::scheduler::entry::{Class, Entry, Reply};
use encoder_svc::scheduler::queue::{Next, Queue};
use encoder_svc::scheduler::workers::{Worker, Workers};
use service_kit::ApiError;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::sabotage::Sabotage;
use crate::truth;
use crate::world::World;

/// The encoder's queue, with wakeups for tasks instead of threads.
pub struct TaskQueue<T = Entry> {
    queue: Queue<T>,
    changed: Notify,
}

impl<T> Default for TaskQueue<T> {
    fn default() -> Self {
        Self { queue: Queue::default(), changed: Notify::new() }
    }
}

impl<T> TaskQueue<T> {
    fn push(&self, class: Class, entry: T) {
        self.queue.push(class, entry);
        self.changed.notify_waiters();
    }

    /// The next entry for a worker; `None` once the queue is closed.
    async fn next(&self, worker: Worker) -> Option<(T, Class)> {
        loop {
            // Register before polling, so no wakeup is lost.
            let changed = self.changed.notified();
            match self.queue.poll(worker) {
                Next::Run(entry, class) => return Some((entry, class)),
                Next::Wait => changed.await,
                Next::End => return None,
            }
        }
    }

    fn done(&self, class: Class) {
        self.queue.done(class, 1);
        self.changed.notify_waiters();
    }

    fn close(&self) {
        self.queue.close();
        self.changed.notify_waiters();
    }

    /// The number of entries that no worker has taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }
}

/// What a worker makes of a text.
pub(crate) struct SimulatedModel {
    pub(crate) world: Arc<World>,
    pub(crate) index: usize,
    pub(crate) fingerprint: String,
}

impl SimulatedModel {
    async fn run(&self, text: &str, worker: Worker) -> Reply {
        let cores = if worker == Worker::AllCore { 2 } else { 1 };
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
pub(crate) struct TaskWorkers(Arc<TaskQueue>);

impl TaskWorkers {
    /// Starts `sessions` single-core workers and the all-core worker.
    pub(crate) fn start(model: SimulatedModel, sessions: usize, admission: &Arc<Admission>) -> Self {
        let (queue, model) = (Arc::new(TaskQueue::<Entry>::default()), Arc::new(model));
        for worker in std::iter::repeat_n(Worker::SingleCore, sessions).chain([Worker::AllCore]) {
            let (queue, model, admission) = (queue.clone(), model.clone(), admission.clone());
            tokio::spawn(async move {
                while let Some((entry, class)) = queue.next(worker).await {
                    if !entry.is_abandoned() {
                        encode(&model, worker, entry, &admission).await;
                    }
                    queue.done(class);
                }
            });
        }
        Self(queue)
    }

    pub(crate) fn queue(&self) -> Weak<TaskQueue> {
        Arc::downgrade(&self.0)
    }
}

impl Workers for TaskWorkers {
    fn push(&self, class: Class, entry: Entry) {
        self.0.push(class, entry);
    }
}

impl Drop for TaskWorkers {
    fn drop(&mut self) {
        self.0.close();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// If a wakeup were lost, an entry would wait for ever and the test would time out.
    async fn take_all() {
        let queue = Arc::new(TaskQueue::<usize>::default());
        let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
        for worker in [Worker::SingleCore, Worker::SingleCore, Worker::AllCore] {
            let (queue, sender) = (queue.clone(), sender.clone());
            tokio::spawn(async move {
                while let Some((entry, class)) = queue.next(worker).await {
                    sender.send(entry).expect("the test receives");
                    tokio::task::yield_now().await;
                    queue.done(class);
                }
            });
        }
        for round in 0..2_000 {
            let count = round % 3 + 1;
            for index in 0..count {
                let class = if (round / 3 + index) % 2 == 0 { Class::Online } else { Class::Bulk };
                queue.push(class, index);
            }
            for _ in 0..count {
                let next = tokio::time::timeout(std::time::Duration::from_secs(20), taken.recv()).await;
                assert!(next.is_ok_and(|entry| entry.is_some()), "an entry waits in round {round}");
            }
        }
        assert_eq!(queue.waiting(), 0);
        queue.close();
        assert!(queue.next(Worker::SingleCore).await.is_none());
    }

    #[tokio::test]
    async fn no_entry_is_left_while_tasks_of_one_thread_wait() {
        take_all().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_entry_is_left_while_tasks_of_several_threads_wait() {
        take_all().await;
    }
}
