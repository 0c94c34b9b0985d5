//! Turns movies into vectors through an encoder service: resumable, in shards, patient with
//! failures.
//!
//! Nothing here tokenizes text or computes a vector: the encoder does.

pub(crate) mod batches;
pub mod embedded;
pub mod error;
pub mod job;
pub mod shard;
pub mod shard_store;
mod vectors_chunks;
mod vectors_job;
