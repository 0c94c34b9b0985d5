//! Connections: listening, accepting, protocol detection, serving, connecting.
//!
//! Nothing here parses requests. Protocol detection reads only the first bytes of a connection, to
//! tell HTTP/1 from HTTP/2.

pub(crate) mod connect;
pub(crate) mod incoming;
pub(crate) mod listener;
mod protocol_detection;
pub(crate) mod server;
pub(crate) mod transport;
mod write_timeout;
