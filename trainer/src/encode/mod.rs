//! Movies to vectors through an encoder service: resumable, sharded, patient.
//!
//! No text is tokenized here: the encoder does that.

pub(crate) mod batches;
pub(crate) mod chunks;
pub mod embedded;
pub mod encoder_client;
pub mod error;
pub mod job;
pub(crate) mod replicas;
pub mod retry;
pub mod shard;
pub mod shard_store;
mod vectors_job;
