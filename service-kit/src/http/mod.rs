//! The HTTP server: probes, metrics, and errors as `application/problem+json`.
//!
//! Knows the routes of no service.

pub(crate) mod metrics;
pub(crate) mod problem;
pub(crate) mod server;
