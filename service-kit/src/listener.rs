//! The address that a service listens on.

use std::net::SocketAddr;

use tokio::net::TcpListener;

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
    pub async fn bind(grpc: SocketAddr, http: Option<SocketAddr>) -> Result<Self, ListenError> {
        let grpc = listen(grpc).await?;
        let http = match http {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        Ok(Self { grpc, http })
    }
}

/// Listens on `address`; port 0 stands for any free one.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}
