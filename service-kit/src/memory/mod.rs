//! The memory that clients can make a process hold, and who gives it back when it runs short.
//!
//! A limit on each message, stream and connection does not bound their sum. Everything that a
//! client can make grow is counted here: open calls, request bytes that no handler has read,
//! unfinished messages, and replies that the client has not read. The counts follow the memory:
//! a reply counts until its bytes are written or its stream is reset.

mod budget;
mod connection;
mod limit;
mod metrics;

pub(crate) use budget::Exhausted;
pub use budget::MemoryBudget;
pub(crate) use connection::{Call, CallGuard, Connection};
pub(crate) use limit::{ConnectionGuard, ConnectionLimit};
pub(crate) use metrics::MemoryMetrics;
