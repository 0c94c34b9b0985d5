//! Connections: listening, accepting, protocol detection, connecting.
//!
//! Knows neither gRPC nor HTTP beyond the first bytes that tell them apart.

pub(crate) mod connect;
pub(crate) mod incoming;
pub(crate) mod listener;
pub(crate) mod protocol_detection;
pub(crate) mod transport;
