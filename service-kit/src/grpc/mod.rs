//! The gRPC server: its stack of layers, what it serves, deadlines, metrics, message budget and
//! health.
//!
//! Handlers live in the services, and code that only HTTP needs lives in `http`.

pub(crate) mod deadline;
pub(crate) mod decode_error;
pub(crate) mod health;
pub(crate) mod in_memory;
pub(crate) mod message_budget;
pub(crate) mod metrics;
pub(crate) mod served;
pub(crate) mod server;
pub(crate) mod settings;
mod stack;
pub(crate) mod web;
