//! The interface between the encoder and the workers that run its entries.

use crate::scheduler::entry::{Class, Entry};

/// A set of workers that run entries and reply to them. Dropping it ends the workers.
pub trait Workers: Send + Sync {
    /// Queues an entry. If the workers end before they reply, the entry is dropped.
    fn push(&self, class: Class, entry: Entry);
}

/// The kind of a worker, which decides the entries that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// A worker on one core or, on a GPU, one of several whose runs overlap. It takes the next
    /// entry.
    SingleCore,
    /// The one worker that is kept for an entry that is alone, and has precedence over the others.
    /// It takes an online entry if no other online entry waits or runs, or a bulk entry if no other
    /// entry waits or runs. It runs on all cores if that is faster, and otherwise on one.
    Reserved,
}
