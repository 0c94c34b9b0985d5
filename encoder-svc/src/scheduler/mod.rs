//! Scheduling: which entries are admitted, in which order they run, and which of them run together.
//!
//! This folder knows costs and deadlines. It must not know the graph, the tokenizer or gRPC.

pub mod admission;
mod class_queues;
pub mod cost;
pub mod entry;
pub mod limits;
mod margin;
pub mod micro_batch;
pub mod queue;
pub mod workers;
