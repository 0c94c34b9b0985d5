//! What one connection holds, and the number of connections of a listener.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use tokio::sync::Notify;

use super::budget::MemoryBudget;
use super::call::Call;
use crate::Caller;

/// An accepted connection.
pub(crate) struct Connection {
    caller: Caller,
    budget: MemoryBudget,
    /// The number of connections of its listener.
    open: Arc<AtomicUsize>,
    /// Whether `open` includes this connection.
    counted: AtomicBool,
    held: AtomicUsize,
    calls: Mutex<Slab<Arc<Call>>>,
    /// 0 while calls are open.
    idle_since: AtomicU64,
    /// 0 unless the peer's system accepts no more bytes.
    blocked_since: AtomicU64,
    /// The bytes held when the connection was evicted.
    evicted: AtomicUsize,
    closing: AtomicBool,
    close: Notify,
}

/// Keeps a connection counted until it is dropped.
pub(crate) struct ConnectionGuard {
    connection: Arc<Connection>,
    key: usize,
}

/// The most connections of one listener. Clones share the count.
#[derive(Clone)]
pub(crate) struct ConnectionLimit {
    budget: MemoryBudget,
    max: usize,
    open: Arc<AtomicUsize>,
}

impl ConnectionLimit {
    pub(crate) fn new(budget: MemoryBudget, max: usize) -> Self {
        Self { budget, max, open: Arc::default() }
    }

    /// Counts a connection. Over the limit, closes another one that has been idle longest, or whose
    /// calls have all waited for their client longest; clients reconnect when they next call.
    /// Returns `None` if every connection is busy.
    pub(crate) fn open(&self) -> Option<ConnectionGuard> {
        if self.open.load(Ordering::Relaxed) >= self.max && !self.close_quietest() {
            return None;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            caller: Caller::of_new_connection(),
            budget: self.budget.clone(),
            open: self.open.clone(),
            counted: AtomicBool::new(true),
            held: AtomicUsize::new(0),
            calls: Mutex::default(),
            idle_since: AtomicU64::new(self.budget.now()),
            blocked_since: AtomicU64::new(0),
            evicted: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            close: Notify::new(),
        });
        let key = self.budget.connections().insert(connection.clone());
        Some(ConnectionGuard { connection, key })
    }

    /// Closes some of the quietest connections. A search visits all, so it closes a few at once.
    fn close_quietest(&self) -> bool {
        let connections = self.budget.connections();
        let ours = connections.iter().map(|(_, connection)| connection);
        let ours = ours.filter(|connection| Arc::ptr_eq(&connection.open, &self.open));
        let mut quiet: Vec<_> =
            ours.filter_map(|connection| Some((connection.quiet_since()?, connection))).collect();
        quiet.sort_unstable_by_key(|(since, _)| *since);
        let closed = quiet.iter().take(self.max / 64 + 1).map(|(_, connection)| connection.close()).count();
        tracing::debug!(closed, "connection limit reached: closed idle connections");
        closed > 0
    }
}

impl ConnectionGuard {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connection.uncount();
        self.connection.budget.connections().remove(self.key);
        self.connection.budget.left(self.connection.evicted.swap(0, Ordering::Relaxed));
    }
}

impl Connection {
    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// The caller of requests without an API key.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn calls(&self) -> MutexGuard<'_, Slab<Arc<Call>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin_call(&self, call: Arc<Call>) -> usize {
        let mut calls = self.calls();
        self.idle_since.store(0, Ordering::Relaxed);
        calls.insert(call)
    }

    pub(super) fn end_call(&self, key: usize) {
        let mut calls = self.calls();
        calls.remove(key);
        if calls.is_empty() {
            self.idle_since.store(self.budget.now(), Ordering::Relaxed);
        }
    }

    /// Whether no call is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.calls().is_empty()
    }

    /// Waits until the connection must close.
    pub(crate) async fn closed(&self) {
        let notified = self.close.notified();
        if !self.closing.load(Ordering::Relaxed) {
            notified.await;
        }
    }

    /// Says whether the peer's system accepts no more bytes.
    pub(crate) fn set_blocked(&self, blocked: bool) {
        let was = self.blocked_since.load(Ordering::Relaxed) > 0;
        if blocked != was {
            self.blocked_since.store(if blocked { self.budget.now() } else { 0 }, Ordering::Relaxed);
        }
    }

    fn uncount(&self) {
        if self.counted.swap(false, Ordering::Relaxed) {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Closes the connection. It counts no longer, because it is about to end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.uncount();
        self.close.notify_one();
    }

    /// Since when nothing on this connection waits for the service; `None` if something does.
    fn quiet_since(&self) -> Option<u64> {
        if self.closing.load(Ordering::Relaxed) {
            return None;
        }
        let calls = self.calls();
        if calls.is_empty() {
            return Some(self.idle_since.load(Ordering::Relaxed));
        }
        calls
            .iter()
            .map(|(_, call)| call.waiting_since())
            .try_fold(0, |latest, since| Some(latest.max(since?)))
    }

    /// Evicts calls that have waited since `until` or earlier, longest wait first, until they hold
    /// `wanted` bytes; the whole connection if its peer has accepted no bytes since then. Returns
    /// the bytes of what it evicted.
    pub(super) fn evict(&self, wanted: usize, until: u64) -> usize {
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked > 0 && blocked <= until && !self.closing.load(Ordering::Relaxed) {
            let held = self.held();
            self.evicted.store(held, Ordering::Relaxed);
            self.budget.leave(held);
            self.close();
            return held;
        }
        let calls = self.calls();
        let waiting = calls.iter().filter_map(|(_, call)| Some((call.waiting_since()?, call)));
        let mut waiting: Vec<_> = waiting.filter(|(since, _)| *since <= until).collect();
        waiting.sort_unstable_by_key(|(since, _)| *since);
        let mut evicted = 0;
        for (_, call) in waiting {
            if evicted >= wanted {
                break;
            }
            evicted += call.evict();
        }
        evicted
    }
}
