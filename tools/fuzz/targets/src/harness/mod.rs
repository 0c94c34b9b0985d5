//! Code that the targets share: input files, an allocation limit, the services in memory, and the
//! rules that they must enforce.
//!
//! Nothing here depends on a target.

pub(crate) mod allocation;
pub(crate) mod grpc;
pub(crate) mod inputs;
pub(crate) mod models;
pub(crate) mod rules;
pub(crate) mod services;
