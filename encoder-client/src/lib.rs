//! The client of the encoder service: texts in, verified vectors of one encoder out.
//!
//! [`EncoderClient`] makes each call with as many attempts as its [`Policy`] allows. An online call
//! has a deadline, hedges, and shares a retry budget; a bulk call retries until its patience ends.
//! Encoding has no side effects, so any attempt may be repeated.
//!
//! - `discovery` follows the addresses of the encoders' names, by DNS or by Kubernetes, and the
//!   health of each; `replica` is one address.
//! - `replicas` picks one for an attempt; `attempts` retries and hedges by the rules of `policy`
//!   and `circuit_breaker`.
//! - `connection` checks the settings of a connection: addresses, TLS, API key.
//! - `status` classifies gRPC statuses; `verify` checks every reply.
//! - [`bulk`] fixes one encoder for a whole job and shortens texts that exceed its limit.
//!
//! The crate knows nothing about models, movies, or the services that use it.

mod attempts;
pub mod bulk;
mod circuit_breaker;
mod client;
#[cfg(feature = "kubernetes")]
mod cluster;
mod config;
mod connection;
mod discovery;
mod error;
mod failure;
mod metrics;
mod policy;
mod replica;
mod replicas;
mod status;
mod verify;

pub use crate::bulk::BulkEncoder;
pub use crate::client::EncoderClient;
#[cfg(feature = "kubernetes")]
pub use crate::cluster::{Kubernetes, NotInCluster};
pub use crate::config::{ClientConfig, Source};
pub use crate::connection::{Connection, ConnectionError};
pub use crate::error::EncoderError;
pub use crate::policy::{BulkPolicy, OnlinePolicy, Policy};
pub use crate::verify::{EncoderDescription, Vectors};
