//! Finds the replicas of the targets, and follows the health of each.
//!
//! - `dns` looks up the targets' names at regular intervals.
//! - `members` turns the addresses that were found into replicas.
//! - `health` watches one replica.

pub(crate) mod dns;
mod health;
mod members;
