//! Which texts are admitted, in which order they run, and which run together.
//!
//! Knows costs and deadlines; it knows neither the model nor gRPC.

pub mod admission;
pub mod cost;
pub mod micro_batch;
pub mod queue;
