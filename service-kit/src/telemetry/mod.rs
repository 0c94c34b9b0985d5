//! Logs, traces, trace context and the metrics registry.
//!
//! Metrics of a protocol live with that protocol, in `grpc` and `http`; trace context is the same
//! for both.

pub(crate) mod exposition;
mod log_filter;
pub(crate) mod logs_and_traces;
pub(crate) mod metrics;
pub(crate) mod trace_context;
