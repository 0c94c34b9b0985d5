//! The HTTP server: probes, metrics, and errors as `application/problem+json`.
//!
//! The routes of a service live in the service.

pub(crate) mod allowed_hosts;
pub(crate) mod canonical_path;
pub(crate) mod metrics;
pub(crate) mod problem;
pub(crate) mod server;
