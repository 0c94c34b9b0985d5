//! The queue between callers and workers: two classes, served so that neither starves. Within a
//! class, callers that have entries waiting get equal shares of the runs by cost.
//!
//! No channel crate (`async-channel`, `flume`, `crossbeam`) offers two classes with a guaranteed
//! share, a batch taken by predicate, and one consumer that is preferred under a condition; all
//! three need one lock over both classes.

use parking_lot::{Condvar, Mutex};

use crate::scheduler::class_queues::ClassQueues;
use crate::scheduler::entry::{Class, Entry, PerClass, Share};
use crate::scheduler::workers::Worker;

/// What a worker does next.
pub enum Next<T> {
    /// Runs this entry.
    Run(T, Class),
    /// Waits until the queue changes.
    Wait,
    /// Ends: the queue is closed.
    End,
}

/// The queue between async callers and workers. It is unbounded;
/// [`admission`](crate::scheduler::admission) bounds what is pushed. An entry whose caller has left
/// is handed to a worker like any other, but uses no share of its caller or its class.
pub struct Queue<T = Entry> {
    state: Mutex<State<T>>,
    /// Wakes single-core workers.
    single_core: Condvar,
    /// Wakes the reserved worker.
    reserved: Condvar,
}

struct State<T> {
    waiting: ClassQueues<T>,
    /// The number of entries that were taken and are not done, by class.
    running: PerClass<usize>,
    /// Whether the reserved worker waits for an entry, or is about to: it runs none.
    reserved_waits: bool,
    open: bool,
}

impl<T> State<T> {
    /// The class of an entry that waits alone, which the reserved worker runs.
    fn alone(&self) -> Option<Class> {
        match (self.waiting.queues.online.len(), self.waiting.queues.bulk.len()) {
            (1, _) if self.running.online == 0 => Some(Class::Online),
            (0, 1) if self.running.online + self.running.bulk == 0 => Some(Class::Bulk),
            _ => None,
        }
    }

    fn take(&mut self, worker: Worker) -> Option<(T, Class)> {
        let taken = match (worker, self.alone()) {
            // The all-core worker was woken for the lone entry; any other waiting entry is of the
            // other class.
            (Worker::SingleCore, Some(Class::Online)) if self.reserved_waits => {
                self.waiting.pop_of(Class::Bulk)
            }
            (Worker::SingleCore, Some(Class::Bulk)) if self.reserved_waits => None,
            (Worker::SingleCore, _) => self.waiting.pop(),
            (Worker::Reserved, alone) => alone.and_then(|class| self.waiting.pop_of(class)),
        };
        if let Some((_, class)) = &taken {
            *self.running.of_mut(*class) += 1;
            if worker == Worker::Reserved {
                self.reserved_waits = false;
            }
        }
        taken
    }

    fn next(&mut self, worker: Worker) -> Next<T> {
        if !self.open {
            return Next::End;
        }
        let taken = self.take(worker);
        if worker == Worker::Reserved && taken.is_none() {
            self.reserved_waits = true;
        }
        taken.map_or(Next::Wait, |(entry, class)| Next::Run(entry, class))
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new(Entry::is_abandoned)
    }
}

impl<T> Queue<T> {
    /// Creates an empty queue. `is_abandoned` says that the caller of an entry has left.
    #[must_use]
    pub fn new(is_abandoned: fn(&T) -> bool) -> Self {
        let waiting = ClassQueues::new(is_abandoned);
        let state = State { waiting, running: PerClass::default(), reserved_waits: false, open: true };
        Self { state: Mutex::new(state), single_core: Condvar::new(), reserved: Condvar::new() }
    }

    /// Appends an entry and wakes a worker. A closed queue drops the entry. Now and then, removes
    /// the entries of the class whose callers have left, and returns them.
    pub fn push(&self, class: Class, share: Share, entry: T) -> Vec<T> {
        let mut state = self.state.lock();
        if !state.open {
            return Vec::new();
        }
        let queue = state.waiting.queues.of_mut(class);
        let abandoned = queue.take_abandoned();
        queue.push(share.caller, share.units, entry);
        let waiting = state.waiting.len();
        let reserved_waits = state.reserved_waits;
        let is_alone = state.alone().is_some();
        drop(state);
        if reserved_waits && is_alone {
            self.reserved.notify_one();
            if waiting == 1 {
                return abandoned;
            }
        }
        self.single_core.notify_one();
        // The entry that was left to the reserved worker is no longer alone, so another worker may
        // take it.
        if reserved_waits && waiting > 1 {
            self.single_core.notify_one();
        }
        abandoned
    }

    /// Takes the next entry for a worker, and blocks the thread until there is one. Returns `None`
    /// once the queue is closed. The worker reports each entry as [`done`](Self::done).
    pub fn pop(&self, worker: Worker) -> Option<(T, Class)> {
        let wakeup = match worker {
            Worker::SingleCore => &self.single_core,
            Worker::Reserved => &self.reserved,
        };
        let mut state = self.state.lock();
        loop {
            match state.next(worker) {
                Next::Run(entry, class) => return Some((entry, class)),
                Next::Wait => wakeup.wait(&mut state),
                Next::End => return None,
            }
        }
    }

    /// Takes the next entry for a worker without blocking. A worker that is told to wait asks again
    /// after every [`push`](Self::push), [`done`](Self::done) and [`close`](Self::close).
    pub fn poll(&self, worker: Worker) -> Next<T> {
        self.state.lock().next(worker)
    }

    /// Takes the next entry for a worker, if there is one. Unlike [`poll`](Self::poll), it does not
    /// make the worker count as waiting.
    pub fn try_pop(&self, worker: Worker) -> Option<(T, Class)> {
        self.state.lock().take(worker)
    }

    /// Takes more entries for a worker that has just taken one of `class`. Shows up to `look_ahead`
    /// entries, in the order in which they are next, to `accepts`, and removes those that it accepts. The others keep their
    /// place.
    pub fn pop_more(&self, class: Class, look_ahead: usize, accepts: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut state = self.state.lock();
        let taken = state.waiting.queues.of_mut(class).pop_more(look_ahead, accepts);
        *state.running.of_mut(class) += taken.len();
        taken
    }

    /// Reports that a worker has finished `entries` entries of `class`. The worker says so before it
    /// sends their replies: a caller that sends its next text at once then finds it alone.
    pub fn done(&self, worker: Worker, class: Class, entries: usize) {
        let mut state = self.state.lock();
        if worker == Worker::Reserved {
            state.reserved_waits = true;
        }
        let running = state.running.of_mut(class);
        *running = running.saturating_sub(entries);
        if *running == 0 {
            state.waiting.queues.of_mut(class).forget_idle();
        }
        if state.reserved_waits && state.alone().is_some() {
            drop(state);
            self.reserved.notify_one();
        }
    }

    /// Whether bulk entries run.
    #[must_use]
    pub fn bulk_runs(&self) -> bool {
        self.state.lock().running.bulk > 0
    }

    /// The number of entries that no worker has taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Ends every worker and drops the entries that wait. Dropping an entry tells its caller that
    /// no reply will come.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.open = false;
        state.waiting = state.waiting.emptied();
        drop(state);
        self.single_core.notify_all();
        self.reserved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use service_kit::CallerId;

    use super::*;
    use crate::scheduler::micro_batch::{BatchRule, LOOK_AHEAD};

    const SHARE: Share = Share { caller: CallerId::UNKNOWN, units: 1 };

    fn push_all<T>(queue: &Queue<T>, class: Class, entries: impl IntoIterator<Item = T>) {
        for entry in entries {
            queue.push(class, SHARE, entry);
        }
    }

    /// A queue of entries whose callers stay.
    fn queue<T>() -> Queue<T> {
        Queue::new(|_| false)
    }

    #[test]
    fn serves_online_first_and_bulk_once_in_eight() {
        let queue = queue();
        push_all(&queue, Class::Bulk, 0..100);
        push_all(&queue, Class::Online, 0..100);
        let first: Vec<_> = (0..16).filter_map(|_| queue.pop(Worker::SingleCore)).collect();
        assert_eq!(first[0], (0, Class::Online));
        assert_eq!(first.iter().filter(|(_, class)| *class == Class::Bulk).count(), 2);
    }

    #[test]
    fn closing_ends_all_workers() {
        let queue = std::sync::Arc::new(queue::<u8>());
        let workers = [Worker::SingleCore, Worker::Reserved].map(|worker| {
            let queue = queue.clone();
            std::thread::spawn(move || queue.pop(worker))
        });
        queue.close();
        for worker in workers {
            assert!(worker.join().unwrap().is_none());
        }
        queue.push(Class::Online, SHARE, 1);
        assert!(queue.pop(Worker::SingleCore).is_none());
    }

    #[test]
    fn an_online_entry_is_alone_if_no_other_online_entry_waits_or_runs() {
        let queue = queue();
        push_all(&queue, Class::Bulk, [1, 2, 3]);
        assert_eq!(queue.try_pop(Worker::SingleCore), Some((1, Class::Bulk)));
        assert_eq!(queue.try_pop(Worker::Reserved), None, "bulk is not alone");
        queue.push(Class::Online, SHARE, 10);
        assert_eq!(queue.try_pop(Worker::Reserved), Some((10, Class::Online)));
        queue.push(Class::Online, SHARE, 11);
        assert_eq!(queue.try_pop(Worker::Reserved), None, "another runs");
        assert_eq!(queue.try_pop(Worker::SingleCore), Some((11, Class::Online)));
        queue.done(Worker::SingleCore, Class::Online, 2);
        push_all(&queue, Class::Online, [12, 13]);
        assert_eq!(queue.try_pop(Worker::Reserved), None, "two wait");
    }

    /// The next text of a caller may come before the reserved worker asks for it.
    #[test]
    fn an_entry_that_is_alone_is_left_to_a_reserved_worker_that_has_just_finished() {
        let queue = queue();
        queue.push(Class::Online, SHARE, 1);
        assert_eq!(queue.pop(Worker::Reserved), Some((1, Class::Online)));
        queue.push(Class::Bulk, SHARE, 10);
        assert!(!queue.bulk_runs());
        assert_eq!(queue.try_pop(Worker::SingleCore), Some((10, Class::Bulk)), "it is busy");
        assert!(queue.bulk_runs());
        queue.done(Worker::Reserved, Class::Online, 1);
        queue.push(Class::Online, SHARE, 2);
        assert_eq!(queue.try_pop(Worker::SingleCore), None);
        assert_eq!(queue.pop(Worker::Reserved), Some((2, Class::Online)));
    }

    #[test]
    fn a_bulk_entry_is_alone_if_no_other_entry_waits_or_runs() {
        let queue = queue();
        queue.push(Class::Bulk, SHARE, 1);
        assert_eq!(queue.try_pop(Worker::Reserved), Some((1, Class::Bulk)));
        queue.push(Class::Bulk, SHARE, 2);
        assert_eq!(queue.try_pop(Worker::Reserved), None);
        assert_eq!(queue.try_pop(Worker::SingleCore), Some((2, Class::Bulk)));
    }

    /// If a wakeup were lost, an entry would wait for ever and the test would time out.
    #[test]
    fn no_entry_is_left_while_workers_wait() {
        let queue = std::sync::Arc::new(queue::<usize>());
        let (sender, taken) = std::sync::mpsc::channel();
        for worker in [Worker::SingleCore, Worker::SingleCore, Worker::Reserved] {
            let (queue, sender) = (queue.clone(), sender.clone());
            std::thread::spawn(move || {
                while let Some((entry, class)) = queue.pop(worker) {
                    sender.send(entry).unwrap();
                    queue.done(worker, class, 1);
                }
            });
        }
        for round in 0..20_000 {
            // One to three entries of alternating classes; some arrive while workers are busy.
            let count = round % 3 + 1;
            for index in 0..count {
                let class = if (round / 3 + index) % 2 == 0 { Class::Online } else { Class::Bulk };
                queue.push(class, SHARE, index);
            }
            let mut seen: Vec<_> = (0..count)
                .map(|_| {
                    taken.recv_timeout(std::time::Duration::from_secs(20)).expect("every entry is taken")
                })
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
        queue.close();
    }

    #[test]
    fn takes_more_of_one_class_only_and_leaves_the_rest_in_order() {
        let queue = queue();
        push_all(&queue, Class::Online, 0..10);
        push_all(&queue, Class::Bulk, 100..110);
        assert_eq!(queue.pop(Worker::SingleCore), Some((0, Class::Online)));
        assert_eq!(
            queue.pop_more(Class::Online, 6, |entry| entry % 2 == 0),
            [2, 4, 6],
            "7 to 9 are beyond the look-ahead"
        );
        assert_eq!(queue.waiting(), 16);
        let rest: Vec<_> =
            (0..6).filter_map(|_| queue.try_pop(Worker::SingleCore)).map(|(entry, _)| entry).collect();
        assert_eq!(rest, [1, 3, 5, 7, 8, 9]);
        assert!(queue.pop_more(Class::Online, 6, |_| true).is_empty());
    }

    #[test]
    fn an_entry_is_alone_only_once_the_whole_batch_is_done() {
        let queue = queue();
        push_all(&queue, Class::Online, 0..3);
        assert_eq!(queue.pop(Worker::SingleCore), Some((0, Class::Online)));
        assert_eq!(queue.pop_more(Class::Online, 8, |_| true).len(), 2);
        queue.push(Class::Online, SHARE, 3);
        queue.done(Worker::SingleCore, Class::Online, 2);
        assert_eq!(queue.try_pop(Worker::Reserved), None);
        queue.done(Worker::SingleCore, Class::Online, 1);
        assert_eq!(queue.try_pop(Worker::Reserved), Some((3, Class::Online)));
    }

    proptest! {
        /// Each batch contains the oldest entry of its class, so none waits for ever.
        #[test]
        fn batches_take_each_entry_once_and_always_the_oldest(
            bytes in prop::collection::vec(0_usize..2000, 1..200),
            tokens in 16_usize..2048,
        ) {
            let queue = queue();
            let rule = BatchRule { tokens, max_tokens: 256 };
            push_all(&queue, Class::Bulk, bytes.iter().copied().enumerate());
            let mut missing: std::collections::BTreeSet<_> = (0..bytes.len()).collect();
            while let Some(((oldest, length), class)) = queue.try_pop(Worker::SingleCore) {
                prop_assert_eq!(missing.pop_first(), Some(oldest));
                let mut batch = rule.begin(length);
                let more = queue.pop_more(class, LOOK_AHEAD, |(_, length)| batch.takes(*length));
                for (index, _) in &more {
                    prop_assert!(missing.remove(index));
                }
                queue.done(Worker::SingleCore, class, 1 + more.len());
            }
            prop_assert!(missing.is_empty());
        }

        #[test]
        fn serves_each_entry_once_and_in_order_within_its_class(classes in prop::collection::vec(any::<bool>(), 0..200)) {
            let queue = queue();
            for (index, online) in classes.iter().enumerate() {
                queue.push(if *online { Class::Online } else { Class::Bulk }, SHARE, (*online, index));
            }
            let popped: Vec<_> =
                (0..classes.len()).filter_map(|_| queue.try_pop(Worker::SingleCore)).map(|(entry, _)| entry).collect();
            prop_assert_eq!(popped.len(), classes.len());
            for class in [true, false] {
                let order: Vec<_> = popped.iter().filter(|(c, _)| *c == class).collect();
                prop_assert!(order.windows(2).all(|pair| pair[0].1 < pair[1].1));
            }
        }
    }
}
