//! The number of connections of a listener.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

use super::budget::MemoryBudget;
use super::connection::Connection;

/// Keeps a connection counted until it is dropped.
pub(crate) struct ConnectionGuard {
    connection: Arc<Connection>,
    limit: ConnectionLimit,
    key: usize,
    budget_key: usize,
}

/// The most connections of one listener. Clones share the count.
#[derive(Clone)]
pub(crate) struct ConnectionLimit {
    budget: MemoryBudget,
    max: usize,
    /// The connections that are not about to close.
    open: Arc<AtomicUsize>,
    connections: Arc<Mutex<Slab<Arc<Connection>>>>,
}

impl ConnectionLimit {
    pub(crate) fn new(budget: MemoryBudget, max: usize) -> Self {
        Self { budget, max, open: Arc::default(), connections: Arc::default() }
    }

    /// Counts a connection. Over the limit, closes another one that has been idle longest, or whose
    /// calls have all waited for their client longest; clients reconnect when they next call.
    /// Returns `None` if every connection is busy, or too many are about to close.
    pub(crate) fn open(&self) -> Option<ConnectionGuard> {
        if self.open.load(Ordering::Relaxed) >= self.max && !self.close_quietest() {
            return None;
        }
        // Those that are about to close take memory, too.
        if self.connections().len() >= 2 * self.max {
            return None;
        }
        let connection = Connection::new(self.budget.clone(), self.open.clone());
        let key = self.connections().insert(connection.clone());
        let budget_key = self.budget.connections().insert(connection.clone());
        Some(ConnectionGuard { connection, limit: self.clone(), key, budget_key })
    }

    fn connections(&self) -> MutexGuard<'_, Slab<Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes some of the quietest connections. A search visits all, so it closes a few at once.
    fn close_quietest(&self) -> bool {
        let connections = self.connections();
        let quiet =
            connections.iter().filter_map(|(_, connection)| Some((connection.quiet_since()?, connection)));
        let mut quiet: Vec<_> = quiet.collect();
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
        self.limit.connections().remove(self.key);
        self.limit.budget.connections().remove(self.budget_key);
        self.connection.end();
    }
}
