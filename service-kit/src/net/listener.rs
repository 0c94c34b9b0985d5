//! The address that a service listens on.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted, where the system allows so many (`net.core.somaxconn`): what comes beyond them is
/// dropped by the system, and tried again by the client's after a second.
const BACKLOG: u32 = 4096;

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// What a service is met on.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC.
    pub grpc: TcpListener,
    /// HTTP, where it is wanted.
    pub http: Option<TcpListener>,
}

impl Listeners {
    /// Listens on both addresses.
    pub fn bind(grpc: SocketAddr, http: Option<SocketAddr>) -> Result<Self, ListenError> {
        let grpc = listen(grpc)?;
        let http = match http {
            Some(address) => Some(listen(address)?),
            None => None,
        };
        Ok(Self { grpc, http })
    }
}

/// Listens on `address`; port 0 stands for any free one.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| ListenError { address, source })
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As TcpListener::bind does: the connections of a service that has ended may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
