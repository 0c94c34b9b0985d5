//! What one call holds, and since when it waits for its client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use axum::body::Bytes;
use futures_util::task::AtomicWaker;
use http::Extensions;

use super::budget::{Exhausted, MemoryBudget};
use super::connection::Connection;

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
            owns_connection,
        });
        let bytes = OPEN_CALL_BYTES + head_bytes;
        connection.budget().take(bytes, Some(&call))?;
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
        self.call.budget().release(self.bytes, Some(&self.call));
        self.call.budget().left(self.call.evicted.swap(0, Ordering::Relaxed));
    }
}

impl Call {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn budget(&self) -> &MemoryBudget {
        self.connection.budget()
    }

    /// Says in the extensions of a request which call it is, and whose.
    pub(crate) fn describe(self: &Arc<Self>, extensions: &mut Extensions) {
        extensions.insert(self.clone());
        extensions.insert(self.connection.caller().clone());
    }

    pub(super) fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.connection.add(bytes);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.connection.subtract(bytes);
    }

    /// Returns `bytes` such that they count until their memory is free.
    pub(crate) fn hold(self: &Arc<Self>, bytes: Bytes) -> Result<Bytes, Exhausted> {
        self.budget().take(bytes.len(), Some(self))?;
        Ok(Bytes::from_owner(Held { bytes, call: self.clone() }))
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
        let was = self.waiting_since.load(Ordering::Relaxed) > 0;
        if waiting && (progress || !was) {
            self.waiting_since.store(self.budget().now(), Ordering::Relaxed);
        } else if was && !waiting {
            self.waiting_since.store(0, Ordering::Relaxed);
        }
    }

    /// When the call began to wait for its client, if it does.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        let since = self.waiting_since.load(Ordering::Relaxed);
        (since > 0 && !self.is_evicted()).then_some(since)
    }

    /// Evicts the call and returns the bytes that it holds.
    pub(super) fn evict(&self) -> usize {
        let held = self.held.load(Ordering::Relaxed).max(1);
        self.evicted.store(held, Ordering::Relaxed);
        self.budget().leave(held);
        self.waker.wake();
        if self.owns_connection {
            self.connection.close();
        }
        held
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
        self.call.budget().release(self.bytes.len(), Some(&self.call));
    }
}
