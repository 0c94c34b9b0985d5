//! Sharing between callers: in which order their work runs, and how much of it each may hold.
//!
//! This folder knows callers and amounts. It must not know what the work is.

mod limit;
mod queue;

pub use limit::{FairLimit, FairPermit, amount_of};
pub use queue::FairQueue;
