//! Where texts wait for a free session: two classes, bounded, served so that neither starves. Workers are threads or tasks.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use proto::encoder::v1::Priority;
use tokio::sync::{Notify, oneshot};
use tracing::Span;

use service_kit::{ApiError, Deadline};

/// Of this many runs in a row one is of bulk texts, where bulk waits: online is served first, and bulk never stands still.
pub const BULK_SHARE: u32 = 8;

/// Which texts go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Somebody is waiting.
    Online,
    /// A job is running.
    Bulk,
}

impl From<Priority> for Class {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Unspecified | Priority::Online => Self::Online,
            Priority::Bulk => Self::Bulk,
        }
    }
}

/// A text's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// As many floats as the bundle's dimension.
    pub vector: Vec<f32>,
    /// Tokens after truncation, special tokens included.
    pub token_count: usize,
    /// Whether the text was cut.
    pub truncated: bool,
}

/// A text on its way.
pub struct Entry {
    /// What to encode.
    pub text: String,
    /// When nobody waits any more.
    pub deadline: Deadline,
    /// Where the vector goes; closed when the caller left.
    pub reply: oneshot::Sender<Result<Encoded, ApiError>>,
    /// When it came.
    pub since: Instant,
    /// The caller's span, of which the stages are parts.
    pub span: Span,
}

impl Entry {
    /// A text that comes now, and where its vector will arrive.
    #[must_use]
    pub fn new(text: String, deadline: Deadline) -> (Self, oneshot::Receiver<Result<Encoded, ApiError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { text, deadline, reply, since: Instant::now(), span: Span::current() }, answer)
    }

    /// Whether a vector is of no use to anybody any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// First in, first out within a class.
struct Lanes<T> {
    online: VecDeque<T>,
    bulk: VecDeque<T>,
    online_in_a_row: u32,
}

impl<T> Lanes<T> {
    fn of(&mut self, class: Class) -> &mut VecDeque<T> {
        match class {
            Class::Online => &mut self.online,
            Class::Bulk => &mut self.bulk,
        }
    }

    fn pop_front(&mut self, class: Class) -> Option<(T, Class)> {
        self.of(class).pop_front().map(|entry| (entry, class))
    }

    fn pop(&mut self) -> Option<(T, Class)> {
        let bulk_is_due = self.online_in_a_row + 1 >= BULK_SHARE && !self.bulk.is_empty();
        if !bulk_is_due && let Some(taken) = self.pop_front(Class::Online) {
            self.online_in_a_row = self.online_in_a_row.saturating_add(1);
            return Some(taken);
        }
        self.online_in_a_row = 0;
        self.pop_front(Class::Bulk)
    }
}

/// Who takes entries out of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// One of as many as there are cores, or runs of the device: takes whatever is next.
    Core,
    /// The one that has all cores, and goes before the others: takes an online text that is alone among online texts, or
    /// a bulk text that is alone altogether.
    Lone,
}

/// What workers of a kind wait for: threads at the one, tasks at the other.
#[derive(Default)]
struct Bell {
    threads: Condvar,
    tasks: Notify,
}

impl Bell {
    fn ring(&self) {
        self.threads.notify_one();
        self.tasks.notify_one();
    }

    fn ring_for_all(&self) {
        self.threads.notify_all();
        self.tasks.notify_waiters();
    }
}

/// The queue between async callers and workers. Bounds are kept by whoever pushes and waits (see
/// [`admission`](crate::scheduler::admission)).
pub struct Queue<T = Entry> {
    state: Mutex<State<T>>,
    /// Wakes workers of a core.
    core: Bell,
    /// Wakes the worker of lone texts.
    lone: Bell,
}

struct State<T> {
    lanes: Lanes<T>,
    /// Entries that workers are at, by class.
    online_running: usize,
    bulk_running: usize,
    /// Whether the worker of lone texts waits for one.
    lone_waits: bool,
    open: bool,
}

impl<T> State<T> {
    fn running(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Online => &mut self.online_running,
            Class::Bulk => &mut self.bulk_running,
        }
    }

    /// The class of an entry that is alone, so that all cores are free for it.
    fn alone(&self) -> Option<Class> {
        match (self.lanes.online.len(), self.lanes.bulk.len()) {
            (1, _) if self.online_running == 0 => Some(Class::Online),
            (0, 1) if self.online_running + self.bulk_running == 0 => Some(Class::Bulk),
            _ => None,
        }
    }

    fn take(&mut self, worker: Worker) -> Option<(T, Class)> {
        let taken = match (worker, self.alone()) {
            // It has been woken for it; what else waits can only be of the other class.
            (Worker::Core, Some(Class::Online)) if self.lone_waits => self.lanes.pop_front(Class::Bulk),
            (Worker::Core, Some(Class::Bulk)) if self.lone_waits => None,
            (Worker::Core, _) => self.lanes.pop(),
            (Worker::Lone, alone) => alone.and_then(|class| self.lanes.pop_front(class)),
        };
        if let Some((_, class)) = &taken {
            *self.running(*class) += 1;
        }
        taken
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let lanes = Lanes { online: VecDeque::new(), bulk: VecDeque::new(), online_in_a_row: 0 };
        let state = State { lanes, online_running: 0, bulk_running: 0, lone_waits: false, open: true };
        Self { state: Mutex::new(state), core: Bell::default(), lone: Bell::default() }
    }
}

impl<T> Queue<T> {
    /// Appends entries, all under one lock; wakes as many workers. Dropped where the queue is closed.
    pub fn push(&self, class: Class, entries: impl IntoIterator<Item = T>) {
        let mut state = self.state.lock();
        if !state.open {
            return;
        }
        let lane = state.lanes.of(class);
        let before = lane.len();
        lane.extend(entries);
        let added = lane.len() - before;
        let waiting = state.lanes.online.len() + state.lanes.bulk.len();
        let lone_waits = state.lone_waits;
        let is_alone = state.alone().is_some();
        drop(state);
        if lone_waits && is_alone {
            self.lone.ring();
            if waiting == 1 {
                return;
            }
        }
        if added == 1 {
            self.core.ring();
            // What was left to the worker of lone texts is alone no longer.
            if lone_waits && waiting > 1 {
                self.core.ring();
            }
        } else {
            self.core.ring_for_all();
        }
    }

    /// The next entry for such a worker; blocks the thread until there is one. `None` once the queue is closed. The
    /// worker says [`done`](Self::done) after each.
    pub fn pop(&self, worker: Worker) -> Option<(T, Class)> {
        let mut state = self.state.lock();
        loop {
            if !state.open {
                return None;
            }
            if let Some(taken) = state.take(worker) {
                return Some(taken);
            }
            state.lone_waits |= worker == Worker::Lone;
            self.bell(worker).threads.wait(&mut state);
            if worker == Worker::Lone {
                state.lone_waits = false;
            }
        }
    }

    /// The same for a worker that is a task, which waits without blocking its thread.
    pub async fn next(&self, worker: Worker) -> Option<(T, Class)> {
        loop {
            // From before the look, so that nothing that comes after it is missed.
            let rung = self.bell(worker).tasks.notified();
            {
                let mut state = self.state.lock();
                if !state.open {
                    return None;
                }
                if let Some(taken) = state.take(worker) {
                    return Some(taken);
                }
                state.lone_waits |= worker == Worker::Lone;
            }
            rung.await;
            if worker == Worker::Lone {
                self.state.lock().lone_waits = false;
            }
        }
    }

    fn bell(&self, worker: Worker) -> &Bell {
        match worker {
            Worker::Core => &self.core,
            Worker::Lone => &self.lone,
        }
    }

    /// Entries that no worker has come to.
    #[must_use]
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.lanes.online.len() + state.lanes.bulk.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next entry for such a worker, if there is one.
    pub fn try_pop(&self, worker: Worker) -> Option<(T, Class)> {
        self.state.lock().take(worker)
    }

    /// More entries for a worker that has just taken one of that class: of those that wait, `look_ahead` at most are shown to
    /// `takes`, the oldest first, and those that it takes come out. What it leaves keeps its place.
    pub fn company(&self, class: Class, look_ahead: usize, mut takes: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut state = self.state.lock();
        let lane = state.lanes.of(class);
        let looked_at: Vec<_> = lane.drain(..look_ahead.min(lane.len())).collect();
        let (company, left): (Vec<_>, Vec<_>) = looked_at.into_iter().partition(|entry| takes(entry));
        for entry in left.into_iter().rev() {
            lane.push_front(entry);
        }
        *state.running(class) += company.len();
        company
    }

    /// A worker has done with so many entries of that class.
    pub fn done(&self, class: Class, entries: usize) {
        let mut state = self.state.lock();
        let running = state.running(class);
        *running = running.saturating_sub(entries);
        if state.lone_waits && state.alone().is_some() {
            drop(state);
            self.lone.ring();
        }
    }

    /// Ends every worker; entries still waiting are dropped, which their callers see.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.open = false;
        state.lanes.online.clear();
        state.lanes.bulk.clear();
        drop(state);
        self.core.ring_for_all();
        self.lone.ring_for_all();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scheduler::micro_batch::{BatchRule, LOOK_AHEAD};

    #[test]
    fn online_goes_first_and_bulk_never_stands_still() {
        let queue = Queue::default();
        queue.push(Class::Bulk, 0..100);
        queue.push(Class::Online, 0..100);
        let first: Vec<_> = (0..16).filter_map(|_| queue.pop(Worker::Core)).collect();
        assert_eq!(first[0], (0, Class::Online));
        assert_eq!(first.iter().filter(|(_, class)| *class == Class::Bulk).count(), 2);
    }

    #[test]
    fn a_closed_queue_ends_its_workers() {
        let queue = std::sync::Arc::new(Queue::<u8>::default());
        let workers = [Worker::Core, Worker::Lone].map(|worker| {
            let queue = queue.clone();
            std::thread::spawn(move || queue.pop(worker))
        });
        queue.close();
        for worker in workers {
            assert!(worker.join().unwrap().is_none());
        }
        queue.push(Class::Online, [1]);
        assert!(queue.pop(Worker::Core).is_none());
    }

    #[test]
    fn an_online_text_is_alone_while_no_other_one_waits_or_runs_whatever_bulk_does() {
        let queue = Queue::default();
        queue.push(Class::Bulk, [1, 2, 3]);
        assert_eq!(queue.try_pop(Worker::Core), Some((1, Class::Bulk)));
        assert_eq!(queue.try_pop(Worker::Lone), None, "bulk is not alone");
        queue.push(Class::Online, [10]);
        assert_eq!(queue.try_pop(Worker::Lone), Some((10, Class::Online)));
        queue.push(Class::Online, [11]);
        assert_eq!(queue.try_pop(Worker::Lone), None, "another runs");
        assert_eq!(queue.try_pop(Worker::Core), Some((11, Class::Online)));
        queue.done(Class::Online, 2);
        queue.push(Class::Online, [12, 13]);
        assert_eq!(queue.try_pop(Worker::Lone), None, "two came at once");
    }

    #[test]
    fn a_bulk_text_is_alone_while_nothing_else_waits_or_runs() {
        let queue = Queue::default();
        queue.push(Class::Bulk, [1]);
        assert_eq!(queue.try_pop(Worker::Lone), Some((1, Class::Bulk)));
        queue.push(Class::Bulk, [2]);
        assert_eq!(queue.try_pop(Worker::Lone), None);
        assert_eq!(queue.try_pop(Worker::Core), Some((2, Class::Bulk)));
    }

    /// Workers that wait for each other's entries would stand still, and this test with them.
    #[test]
    fn nothing_is_left_lying_while_workers_wait() {
        let queue = std::sync::Arc::new(Queue::<usize>::default());
        let (sender, taken) = std::sync::mpsc::channel();
        for worker in [Worker::Core, Worker::Core, Worker::Lone] {
            let (queue, sender) = (queue.clone(), sender.clone());
            std::thread::spawn(move || {
                while let Some((entry, class)) = queue.pop(worker) {
                    sender.send(entry).unwrap();
                    queue.done(class, 1);
                }
            });
        }
        for round in 0..20_000 {
            // One to three entries of changing classes, and now and then some that come while workers are at others.
            let count = round % 3 + 1;
            for index in 0..count {
                let class = if (round / 3 + index) % 2 == 0 { Class::Online } else { Class::Bulk };
                queue.push(class, [index]);
            }
            let mut seen: Vec<_> = (0..count)
                .map(|_| taken.recv_timeout(std::time::Duration::from_secs(20)).expect("an entry lies there"))
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
        queue.close();
    }

    /// The same for workers that are tasks, on one thread and on several.
    async fn tasks_leave_nothing_lying() {
        let queue = std::sync::Arc::new(Queue::<usize>::default());
        let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
        for worker in [Worker::Core, Worker::Core, Worker::Lone] {
            let (queue, sender) = (queue.clone(), sender.clone());
            tokio::spawn(async move {
                while let Some((entry, class)) = queue.next(worker).await {
                    sender.send(entry).unwrap();
                    tokio::task::yield_now().await;
                    queue.done(class, 1);
                }
            });
        }
        for round in 0..2_000 {
            let count = round % 3 + 1;
            for index in 0..count {
                let class = if (round / 3 + index) % 2 == 0 { Class::Online } else { Class::Bulk };
                queue.push(class, [index]);
            }
            for _ in 0..count {
                let next = tokio::time::timeout(std::time::Duration::from_secs(20), taken.recv()).await;
                assert!(next.is_ok_and(|entry| entry.is_some()), "an entry lies there in round {round}");
            }
        }
        assert!(queue.is_empty());
        queue.close();
        assert!(queue.next(Worker::Core).await.is_none());
    }

    #[tokio::test]
    async fn nothing_is_left_lying_while_tasks_of_one_thread_wait() {
        tasks_leave_nothing_lying().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_left_lying_while_tasks_of_several_threads_wait() {
        tasks_leave_nothing_lying().await;
    }

    #[test]
    fn company_is_of_one_class_and_what_is_left_keeps_its_place() {
        let queue = Queue::default();
        queue.push(Class::Online, 0..10);
        queue.push(Class::Bulk, 100..110);
        assert_eq!(queue.pop(Worker::Core), Some((0, Class::Online)));
        assert_eq!(
            queue.company(Class::Online, 6, |entry| entry % 2 == 0),
            [2, 4, 6],
            "7 to 9 are not looked at"
        );
        assert_eq!(queue.len(), 16);
        let rest: Vec<_> =
            (0..6).filter_map(|_| queue.try_pop(Worker::Core)).map(|(entry, _)| entry).collect();
        assert_eq!(rest, [1, 3, 5, 7, 8, 9]);
        assert!(queue.company(Class::Online, 6, |_| true).is_empty());
    }

    #[test]
    fn a_text_is_alone_only_once_all_of_a_run_are_done() {
        let queue = Queue::default();
        queue.push(Class::Online, 0..3);
        assert_eq!(queue.pop(Worker::Core), Some((0, Class::Online)));
        assert_eq!(queue.company(Class::Online, 8, |_| true).len(), 2);
        queue.push(Class::Online, [3]);
        queue.done(Class::Online, 2);
        assert_eq!(queue.try_pop(Worker::Lone), None);
        queue.done(Class::Online, 1);
        assert_eq!(queue.try_pop(Worker::Lone), Some((3, Class::Online)));
    }

    proptest! {
        /// Whatever is taken together, and whoever pushes meanwhile: the oldest of its class is in each run, so none waits for ever.
        #[test]
        fn runs_of_several_take_each_entry_once_and_always_the_oldest(
            bytes in prop::collection::vec(0_usize..2000, 1..200),
            tokens in 16_usize..2048,
        ) {
            let queue = Queue::default();
            let rule = BatchRule { tokens, max_tokens: 256 };
            queue.push(Class::Bulk, bytes.iter().copied().enumerate());
            let mut missing: std::collections::BTreeSet<_> = (0..bytes.len()).collect();
            while let Some(((oldest, length), class)) = queue.try_pop(Worker::Core) {
                prop_assert_eq!(missing.pop_first(), Some(oldest));
                let mut batch = rule.begin(length);
                let company = queue.company(class, LOOK_AHEAD, |(_, length)| batch.takes(*length));
                for (index, _) in &company {
                    prop_assert!(missing.remove(index));
                }
                queue.done(class, 1 + company.len());
            }
            prop_assert!(missing.is_empty());
        }

        #[test]
        fn every_entry_comes_out_once_and_in_order_within_its_class(classes in prop::collection::vec(any::<bool>(), 0..200)) {
            let queue = Queue::default();
            for (index, online) in classes.iter().enumerate() {
                queue.push(if *online { Class::Online } else { Class::Bulk }, [(*online, index)]);
            }
            let popped: Vec<_> =
                (0..classes.len()).filter_map(|_| queue.try_pop(Worker::Core)).map(|(entry, _)| entry).collect();
            prop_assert_eq!(popped.len(), classes.len());
            for class in [true, false] {
                let order: Vec<_> = popped.iter().filter(|(c, _)| *c == class).collect();
                prop_assert!(order.windows(2).all(|pair| pair[0].1 < pair[1].1));
            }
        }
    }
}
