//! The gRPC server: its stack of layers, deadlines, metrics, message limits and health.
//!
//! Knows no service. Handlers, and everything that only HTTP needs, live elsewhere.

pub(crate) mod deadline;
pub(crate) mod decode_error;
pub(crate) mod health;
pub(crate) mod in_memory;
pub(crate) mod message_budget;
pub(crate) mod metrics;
pub(crate) mod server;
