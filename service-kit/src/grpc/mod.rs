//! The gRPC server: its stack of layers, deadlines, metrics, message budget and health.
//!
//! Knows no service. Handlers live in the services, and what only HTTP needs in `http`.

pub(crate) mod deadline;
pub(crate) mod decode_error;
pub(crate) mod health;
pub(crate) mod in_memory;
pub(crate) mod message_budget;
pub(crate) mod metrics;
pub(crate) mod server;
