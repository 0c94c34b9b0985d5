//! Connections: listening, accepting, protocol detection, connecting.
//!
//! Knows no request: only the first bytes of a connection, which say whether it is HTTP/1 or
//! HTTP/2.

pub(crate) mod connect;
pub(crate) mod incoming;
pub(crate) mod listener;
pub(crate) mod protocol_detection;
pub(crate) mod transport;
