//! The client of the encoder service: texts in, verified vectors of one encoder out.
//!
//! [`EncoderClient`] makes each call with as many attempts as its [`Policy`] allows. An online call
//! has a deadline, hedges, and shares a retry budget; a bulk call waits patiently. Encoding has no
//! side effects, so any attempt may be repeated.
//!
//! - `discovery` follows the addresses of the encoders' names; `replica` is one address.
//! - `attempts` picks replicas, retries and hedges; `policy` and `circuit_breaker` hold its rules.
//! - `failure` classifies gRPC statuses; `verify` checks every reply.
//! - [`bulk`] fixes one encoder for a whole job and shortens texts that exceed its limit.
//!
//! The crate knows nothing about models, movies, or the services that use it.

mod attempts;
pub mod bulk;
mod circuit_breaker;
mod client;
mod discovery;
mod error;
mod failure;
mod metrics;
mod policy;
mod replica;
mod verify;

pub use crate::bulk::BulkEncoder;
pub use crate::client::{ClientConfig, EncoderClient};
pub use crate::error::EncoderError;
pub use crate::policy::{BulkPolicy, OnlinePolicy, Policy};
pub use crate::verify::{EncoderDescription, Vectors};
