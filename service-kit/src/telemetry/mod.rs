//! Logs, traces and the metrics registry.
//!
//! Metrics of a protocol live with that protocol, in `grpc` and `http`.

pub(crate) mod logs_and_traces;
pub(crate) mod metrics;
