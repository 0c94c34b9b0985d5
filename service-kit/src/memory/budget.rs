//! The budget of a process.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

/// The smallest budget, in bytes.
const MIN_BYTES: usize = 64 << 20;
/// The number of messages of the largest size that the budget holds.
const LARGEST_MESSAGES: usize = 4;
/// The bytes that a connection may hold even if the budget is exhausted. Connections below it never
/// lose a call, so a client of a few calls cannot be displaced by one of many.
pub(super) const RESERVE: usize = 32 << 10;
/// How long a call must have waited for its client to be evicted before calls that wait more
/// briefly. A client that reads its replies makes progress in less.
const PATIENCE: Duration = Duration::from_secs(3);
/// The pause after a search that found nothing to evict, because a search visits every connection.
const SEARCH_PAUSE: Duration = Duration::from_millis(10);

/// The bytes that all clients of a process may make it hold together. Clones share them.
///
/// If the budget is exhausted, calls that wait for their client are evicted: those of the
/// connections that hold the most, longest wait first. If none waits, the call that asks is
/// rejected, unless its connection holds less than its reserve. So the process holds at most the
/// budget and one reserve for each connection.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Shared>);

struct Shared {
    limit: usize,
    held: AtomicUsize,
    /// Bytes of evicted calls and connections that are not released yet.
    leaving: AtomicUsize,
    evictions: AtomicU64,
    connections: Mutex<Slab<Arc<dyn Evict>>>,
    began: Instant,
    next_search: AtomicU64,
}

/// A connection, as the budget sees it.
pub(super) trait Evict: Send + Sync {
    /// Returns the bytes that it holds.
    fn held(&self) -> usize;

    /// Evicts what has waited for the client since `until` or earlier, longest wait first, until it
    /// holds `wanted` bytes. Returns the bytes of what it evicted.
    fn evict(&self, wanted: usize, until: u64) -> usize;
}

/// The budget is exhausted, and nothing can be evicted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exhausted {
    /// The budget in bytes.
    pub(crate) limit: usize,
}

impl MemoryBudget {
    /// Returns a budget for messages of at most `max_bytes` each.
    #[must_use]
    pub fn for_messages_of(max_bytes: usize) -> Self {
        Self::with_limit(MIN_BYTES.max(max_bytes.saturating_mul(LARGEST_MESSAGES)))
    }

    pub(crate) fn with_limit(limit: usize) -> Self {
        Self(Arc::new(Shared {
            limit,
            held: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            connections: Mutex::default(),
            began: Instant::now(),
            next_search: AtomicU64::new(0),
        }))
    }

    /// Returns the bytes held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Milliseconds since the budget was created, never 0.
    pub(super) fn now(&self) -> u64 {
        self.0.began.elapsed().as_millis() as u64 + 1
    }

    pub(super) fn connections(&self) -> MutexGuard<'_, Slab<Arc<dyn Evict>>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `bytes`. `small` says that their connection holds less than its reserve.
    pub(crate) fn take(&self, bytes: usize, small: bool) -> Result<(), Exhausted> {
        let held = self.0.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held <= self.0.limit || self.make_room(small) {
            return Ok(());
        }
        self.release(bytes);
        Err(Exhausted { limit: self.0.limit })
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns how many calls and connections were evicted so far.
    pub(super) fn evictions(&self) -> u64 {
        self.0.evictions.load(Ordering::Relaxed)
    }

    /// Counts an eviction of `bytes`.
    pub(super) fn leave(&self, bytes: usize) {
        self.0.evictions.fetch_add(1, Ordering::Relaxed);
        self.0.leaving.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn left(&self, bytes: usize) {
        self.0.leaving.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns whether what was taken may be held although the budget is exceeded.
    #[cold]
    fn make_room(&self, small: bool) -> bool {
        let staying = self.held().saturating_sub(self.0.leaving.load(Ordering::Relaxed));
        let excess = staying.saturating_sub(self.0.limit);
        if excess == 0 {
            return true;
        }
        let now = self.now();
        if now < self.0.next_search.load(Ordering::Relaxed) {
            return small;
        }
        // Evicts more than the excess, so that not every call has to search.
        let wanted = excess + self.0.limit / 8;
        let mut evicted = self.evict(wanted, now.saturating_sub(PATIENCE.as_millis() as u64));
        if evicted < excess {
            evicted += self.evict(wanted - evicted, now);
        }
        if evicted < excess {
            self.0.next_search.store(now + SEARCH_PAUSE.as_millis() as u64, Ordering::Relaxed);
        }
        small || evicted >= excess
    }

    /// Evicts calls that have waited since `until` or earlier, of the connections that hold the
    /// most, until they hold `wanted` bytes. Returns how many they hold.
    fn evict(&self, wanted: usize, until: u64) -> usize {
        let mut large: Vec<_> = self
            .connections()
            .iter()
            .map(|(_, connection)| (connection.held(), connection.clone()))
            .filter(|(held, _)| *held > RESERVE)
            .collect();
        large.sort_unstable_by_key(|(held, _)| Reverse(*held));
        let mut evicted = 0;
        for (_, connection) in large {
            if evicted >= wanted {
                break;
            }
            evicted += connection.evict(wanted - evicted, until);
        }
        if evicted > 0 {
            tracing::warn!(
                bytes = evicted,
                "memory budget exhausted: evicted calls that wait for their clients"
            );
        }
        evicted
    }
}

impl std::fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBudget").field("limit", &self.0.limit).field("held", &self.held()).finish()
    }
}
