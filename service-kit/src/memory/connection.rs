//! What one connection and its calls hold, and since when they wait for their client.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use axum::body::Bytes;
use futures_util::task::AtomicWaker;
use http::Extensions;
use slab::Slab;
use tokio::sync::Notify;

use super::budget::{Evict, Exhausted, MemoryBudget, RESERVE};
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
    /// Open calls that wait for nothing but news.
    watches: AtomicUsize,
    /// The bytes held when the connection was evicted.
    evicted: AtomicUsize,
    closing: AtomicBool,
    close: Notify,
}

impl Connection {
    /// Counts a connection in `open` until it is about to close.
    pub(super) fn new(budget: MemoryBudget, open: Arc<AtomicUsize>) -> Arc<Self> {
        open.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            caller: Caller::of_new_connection(),
            open,
            counted: AtomicBool::new(true),
            held: AtomicUsize::new(0),
            calls: Mutex::default(),
            idle_since: AtomicU64::new(budget.now()),
            blocked_since: AtomicU64::new(0),
            watches: AtomicUsize::new(0),
            evicted: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            close: Notify::new(),
            budget,
        })
    }

    /// Says that the connection has ended.
    pub(super) fn end(&self) {
        self.uncount();
        self.budget.left(self.evicted.swap(0, Ordering::Relaxed));
    }

    /// The caller of requests without an API key.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    fn calls(&self) -> MutexGuard<'_, Slab<Arc<Call>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_call(&self, call: Arc<Call>) -> usize {
        let mut calls = self.calls();
        self.idle_since.store(0, Ordering::Relaxed);
        calls.insert(call)
    }

    fn end_call(&self, key: usize) {
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

    /// Says that `bytes` of an evicted connection are free, so that they are no longer about to leave.
    fn left(&self, bytes: usize) {
        if self.evicted.load(Ordering::Relaxed) == 0 {
            return;
        }
        let rest = |evicted: usize| Some(evicted.saturating_sub(bytes));
        let before = self.evicted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        self.budget.left(before.unwrap_or_default().min(bytes));
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
    pub(super) fn quiet_since(&self) -> Option<u64> {
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
}

impl Evict for Connection {
    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Evicts the whole connection if its peer has accepted no bytes since `until`.
    fn evict(&self, wanted: usize, until: u64) -> usize {
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked > 0 && blocked <= until && !self.closing.load(Ordering::Relaxed) {
            let held = self.held();
            self.budget.leave(held);
            self.evicted.store(held, Ordering::Relaxed);
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

/// What an open call takes besides its messages, in bytes: its task, its handler, its stream.
const OPEN_CALL_BYTES: usize = 6 << 10;

/// An open call.
pub(crate) struct Call {
    connection: Arc<Connection>,
    held: AtomicUsize,
    /// 0 unless the call waits for its client.
    waiting_since: AtomicU64,
    /// The bytes held at eviction, 0 unless the call is evicted.
    evicted: AtomicUsize,
    waker: AtomicWaker,
    /// Whether the call waits for nothing but news, and so is always evictable.
    watches: AtomicBool,
    /// Whether the call cannot end without its connection, as in HTTP/1.
    owns_connection: bool,
}

/// Keeps a call open. Dropping it ends the call.
pub(crate) struct CallGuard {
    call: Arc<Call>,
    key: usize,
    bytes: usize,
}

impl CallGuard {
    /// Opens a call whose headers have `head_bytes`.
    pub(crate) fn open(
        connection: &Arc<Connection>,
        head_bytes: usize,
        owns_connection: bool,
    ) -> Result<Self, Exhausted> {
        let call = Arc::new(Call {
            connection: connection.clone(),
            held: AtomicUsize::new(0),
            waiting_since: AtomicU64::new(0),
            evicted: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
            watches: AtomicBool::new(false),
            owns_connection,
        });
        let bytes = OPEN_CALL_BYTES + head_bytes;
        call.take(bytes)?;
        let key = connection.begin_call(call.clone());
        Ok(Self { call, key, bytes })
    }

    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.call
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.call.connection.end_call(self.key);
        self.call.release(self.bytes);
        self.call.connection.budget.left(self.call.evicted.swap(0, Ordering::Relaxed));
    }
}

impl Call {
    /// Says in the extensions of a request which call it is, and whose.
    pub(crate) fn describe(self: &Arc<Self>, extensions: &mut Extensions) {
        extensions.insert(self.clone());
        extensions.insert(self.connection.caller().clone());
    }

    /// Counts `bytes` for this call, its connection and the process.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let held = self.connection.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.connection.budget.take(bytes, held <= RESERVE).inspect_err(|_| self.subtract(bytes))
    }

    pub(crate) fn release(&self, bytes: usize) {
        // Skips the shared counter for calls that hold nothing.
        if bytes > 0 {
            self.subtract(bytes);
            self.connection.budget.release(bytes);
            self.connection.left(bytes);
        }
    }

    fn subtract(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.connection.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns `bytes` such that they count until their memory is free.
    pub(crate) fn hold(self: &Arc<Self>, bytes: Bytes) -> Result<Bytes, Exhausted> {
        self.take(bytes.len())?;
        Ok(Bytes::from_owner(Held { bytes, call: self.clone() }))
    }

    /// Says that the call waits for nothing but news, such as that of a change. Returns `None` if
    /// `max` calls of its connection do already.
    pub(crate) fn watch(self: &Arc<Self>, max: usize) -> Option<Watch> {
        let watch = Watch(self.clone());
        let before = self.connection.watches.fetch_add(1, Ordering::Relaxed);
        self.watches.store(true, Ordering::Relaxed);
        (before < max).then_some(watch)
    }

    /// Calls `waker` when the call is evicted. Returns whether it is already.
    pub(crate) fn poll_evicted(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.is_evicted()
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed) > 0
    }

    /// Says whether the call now waits for its client. `progress` restarts a wait.
    pub(crate) fn set_waiting(&self, waiting: bool, progress: bool) {
        let waiting = waiting || self.watches.load(Ordering::Relaxed);
        let was = self.waiting_since.load(Ordering::Relaxed) > 0;
        if waiting && (progress || !was) {
            self.waiting_since.store(self.connection.budget.now(), Ordering::Relaxed);
        } else if was && !waiting {
            self.waiting_since.store(0, Ordering::Relaxed);
        }
    }

    /// When the call began to wait for its client, if it does.
    fn waiting_since(&self) -> Option<u64> {
        let since = self.waiting_since.load(Ordering::Relaxed);
        (since > 0 && !self.is_evicted()).then_some(since)
    }

    /// Evicts the call and returns the bytes that it holds.
    fn evict(&self) -> usize {
        let held = self.held.load(Ordering::Relaxed).max(1);
        self.evicted.store(held, Ordering::Relaxed);
        self.connection.budget.leave(held);
        self.waker.wake();
        if self.owns_connection {
            self.connection.close();
        }
        held
    }
}

/// A call that waits for news, until it is dropped.
pub(crate) struct Watch(Arc<Call>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.connection.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Held {
    bytes: Bytes,
    call: Arc<Call>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.call.release(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_evicted_connection_count_as_leaving_only_until_they_are_free() {
        const KIB: usize = 1 << 10;
        let budget = MemoryBudget::with_limit(1024 * KIB);
        let blocked = Connection::new(budget.clone(), Arc::default());
        let call = CallGuard::open(&blocked, 0, false).unwrap();
        call.call().take(900 * KIB).unwrap();
        blocked.set_blocked(true);
        assert!(blocked.evict(1, u64::MAX) > 900 * KIB);
        call.call().release(900 * KIB);
        drop(call);
        let other = Connection::new(budget.clone(), Arc::default());
        let call = CallGuard::open(&other, 0, false).unwrap();
        call.call().take(900 * KIB).unwrap();
        assert!(call.call().take(900 * KIB).is_err(), "{budget:?}");
        blocked.end();
    }
}
