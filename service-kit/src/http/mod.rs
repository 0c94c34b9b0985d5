//! The HTTP server: its layers, probes, metrics, bodies of requests, and errors as
//! `application/problem+json`.
//!
//! The routes of a service live in the service.

pub(crate) mod allowed_hosts;
pub(crate) mod bounded_list;
pub(crate) mod canonical_path;
pub(crate) mod json_body;
pub(crate) mod metrics;
pub(crate) mod object;
#[cfg(feature = "openapi")]
pub(crate) mod openapi;
pub(crate) mod problem;
pub(crate) mod server;
pub(crate) mod stack;
