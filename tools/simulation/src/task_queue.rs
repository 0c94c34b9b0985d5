//! The encoder's queue for workers that are tasks.

use encoder_svc::scheduler::entry::{Class, Entry, Share};
use encoder_svc::scheduler::queue::{Next, Queue};
use encoder_svc::scheduler::workers::Worker;
use tokio::sync::Notify;

/// The encoder's queue, with wakeups for tasks instead of threads.
pub struct TaskQueue<T = Entry> {
    queue: Queue<T>,
    changed: Notify,
}

impl<T> TaskQueue<T> {
    /// An empty queue; see [`Queue::new`].
    pub(crate) fn new(is_abandoned: fn(&T) -> bool) -> Self {
        Self { queue: Queue::new(is_abandoned), changed: Notify::new() }
    }

    pub(crate) fn push(&self, class: Class, share: Share, entry: T) {
        self.queue.push(class, share, entry);
        self.changed.notify_waiters();
    }

    /// The next entry for a worker; `None` once the queue is closed.
    pub(crate) async fn next(&self, worker: Worker) -> Option<(T, Class)> {
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

    pub(crate) fn done(&self, worker: Worker, class: Class) {
        self.queue.done(worker, class, 1);
        self.changed.notify_waiters();
    }

    pub(crate) fn close(&self) {
        self.queue.close();
        self.changed.notify_waiters();
    }

    /// The number of entries that no worker has taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use service_kit::CallerId;

    use super::*;

    /// If a wakeup were lost, an entry would wait for ever and the test would time out.
    async fn take_all() {
        let queue = Arc::new(TaskQueue::<usize>::new(|_| false));
        let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
        for worker in [Worker::SingleCore, Worker::SingleCore, Worker::Reserved] {
            let (queue, sender) = (queue.clone(), sender.clone());
            tokio::spawn(async move {
                while let Some((entry, class)) = queue.next(worker).await {
                    sender.send(entry).expect("the test receives");
                    tokio::task::yield_now().await;
                    queue.done(worker, class);
                }
            });
        }
        for round in 0..2_000 {
            let count = round % 3 + 1;
            for index in 0..count {
                let class = if (round / 3 + index) % 2 == 0 { Class::Online } else { Class::Bulk };
                queue.push(class, Share { caller: CallerId::UNKNOWN, units: 1 }, index);
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
