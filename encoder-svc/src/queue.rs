//! Where texts wait for a free session: two classes, bounded, served so that neither starves.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use proto::encoder::v1::Priority;
use tokio::sync::oneshot;

use service_kit::{ApiError, Deadline};

/// Of this many texts in a row one is bulk, where bulk waits: online is served first, and bulk never stands still.
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
}

impl Entry {
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
    fn pop(&mut self) -> Option<T> {
        let bulk_is_due = self.online_in_a_row + 1 >= BULK_SHARE && !self.bulk.is_empty();
        if !bulk_is_due && let Some(entry) = self.online.pop_front() {
            self.online_in_a_row = self.online_in_a_row.saturating_add(1);
            return Some(entry);
        }
        self.online_in_a_row = 0;
        self.bulk.pop_front().or_else(|| self.online.pop_front())
    }
}

/// An entry that a worker is given.
#[derive(Debug, PartialEq, Eq)]
pub struct Next<T> {
    /// What to run.
    pub entry: T,
    /// Whether nothing else waits or runs, so that all cores are free for it.
    pub alone: bool,
}

/// The queue between async callers and worker threads. Bounds are kept by whoever pushes and waits (see
/// [`admission`](crate::admission)).
pub struct Queue<T = Entry> {
    state: Mutex<State<T>>,
    pushed: Condvar,
}

struct State<T> {
    lanes: Lanes<T>,
    /// Workers that are at an entry.
    busy: usize,
    open: bool,
}

impl<T> State<T> {
    fn next(&mut self) -> Option<Next<T>> {
        let entry = self.lanes.pop()?;
        let alone = self.busy == 0 && self.lanes.online.is_empty() && self.lanes.bulk.is_empty();
        self.busy += 1;
        Some(Next { entry, alone })
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let lanes = Lanes { online: VecDeque::new(), bulk: VecDeque::new(), online_in_a_row: 0 };
        Self { state: Mutex::new(State { lanes, busy: 0, open: true }), pushed: Condvar::new() }
    }
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds the lock; if it did, the lanes would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries, all under one lock; wakes as many workers. Dropped where the queue is closed.
    pub fn push(&self, class: Class, entries: impl IntoIterator<Item = T>) {
        let mut state = self.lock();
        if !state.open {
            return;
        }
        let lane = match class {
            Class::Online => &mut state.lanes.online,
            Class::Bulk => &mut state.lanes.bulk,
        };
        let before = lane.len();
        lane.extend(entries);
        let added = lane.len() - before;
        drop(state);
        if added == 1 { self.pushed.notify_one() } else { self.pushed.notify_all() }
    }

    /// The next entry; blocks the thread until there is one. `None` once the queue is closed. A worker says
    /// [`done`](Self::done) after each.
    pub fn pop(&self) -> Option<Next<T>> {
        let mut state = self.lock();
        loop {
            if !state.open {
                return None;
            }
            if let Some(next) = state.next() {
                return Some(next);
            }
            state = self.pushed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next entry, if one waits.
    pub fn try_pop(&self) -> Option<Next<T>> {
        self.lock().next()
    }

    /// A worker has done with the entry it was given.
    pub fn done(&self) {
        let mut state = self.lock();
        state.busy = state.busy.saturating_sub(1);
    }

    /// Ends every worker; entries still waiting are dropped, which their callers see.
    pub fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        state.lanes.online.clear();
        state.lanes.bulk.clear();
        drop(state);
        self.pushed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn online_goes_first_and_bulk_never_stands_still() {
        let queue = Queue::default();
        queue.push(Class::Bulk, (0..100).map(|i| (Class::Bulk, i)));
        queue.push(Class::Online, (0..100).map(|i| (Class::Online, i)));
        let first: Vec<_> = (0..16).filter_map(|_| queue.pop()).map(|next| next.entry).collect();
        assert_eq!(first[0], (Class::Online, 0));
        assert_eq!(first.iter().filter(|(class, _)| *class == Class::Bulk).count(), 2);
    }

    #[test]
    fn a_closed_queue_ends_its_workers() {
        let queue = std::sync::Arc::new(Queue::<u8>::default());
        let worker = std::thread::spawn({
            let queue = queue.clone();
            move || queue.pop()
        });
        queue.close();
        assert!(worker.join().unwrap().is_none());
        queue.push(Class::Online, [1]);
        assert!(queue.pop().is_none());
    }

    #[test]
    fn an_entry_is_alone_only_while_nothing_waits_or_runs() {
        let queue = Queue::default();
        queue.push(Class::Online, [1, 2]);
        assert!(!queue.pop().unwrap().alone, "another waits");
        assert!(!queue.pop().unwrap().alone, "another runs");
        queue.done();
        queue.done();
        queue.push(Class::Bulk, [3]);
        assert_eq!(queue.pop(), Some(Next { entry: 3, alone: true }));
    }

    proptest! {
        #[test]
        fn every_entry_comes_out_once_and_in_order_within_its_class(classes in prop::collection::vec(any::<bool>(), 0..200)) {
            let queue = Queue::default();
            for (index, online) in classes.iter().enumerate() {
                queue.push(if *online { Class::Online } else { Class::Bulk }, [(*online, index)]);
            }
            let popped: Vec<_> = (0..classes.len()).filter_map(|_| queue.try_pop()).map(|next| next.entry).collect();
            prop_assert_eq!(popped.len(), classes.len());
            for class in [true, false] {
                let order: Vec<_> = popped.iter().filter(|(c, _)| *c == class).collect();
                prop_assert!(order.windows(2).all(|pair| pair[0].1 < pair[1].1));
            }
        }
    }
}
