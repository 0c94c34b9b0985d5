//! The listeners of a service.
//!
//! `TcpListener::bind` does not fit: its backlog is fixed at 1024.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// The backlog: how many connections may wait to be accepted. The system caps it at
/// `net.core.somaxconn` and drops further connections, which the client's system retries after a
/// second.
const BACKLOG: u32 = 4096;

/// An address on which the service cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// The listeners of a service.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For HTTP, if the service has an HTTP listener.
    pub http: Option<TcpListener>,
}

impl Listeners {
    /// Listens on `grpc` and, if given, on `http`.
    pub fn bind(grpc: SocketAddr, http: Option<SocketAddr>) -> Result<Self, ListenError> {
        let grpc = listen(grpc)?;
        let http = match http {
            Some(address) => Some(listen(address)?),
            None => None,
        };
        Ok(Self { grpc, http })
    }
}

/// Listens on `address`. Port 0 selects any free port.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| ListenError { address, source })
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted service can bind while connections of its predecessor linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
