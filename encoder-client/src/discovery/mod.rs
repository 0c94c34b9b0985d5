//! Finds the replicas of the targets, and follows the health of each.
//!
//! - `dns` looks up the targets' names at regular intervals.
//! - `kubernetes` watches the `EndpointSlices` of the targets' Services, whose `endpoints` are
//!   replicas.
//! - `members` turns the addresses that were found into replicas.
//! - `health` watches one replica.

pub(crate) mod dns;
#[cfg(feature = "kubernetes")]
mod endpoints;
mod health;
#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;
mod members;
