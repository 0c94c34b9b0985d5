//! A server that is called within its own process, without a socket.

use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::{GrpcServer, Shutdown};

/// The capacity of an in-memory connection, in bytes each way.
const BUFFER_BYTES: usize = 1 << 20;

impl GrpcServer {
    /// Serves the calls of the returned channel until `shutdown` or the end of the runtime.
    #[must_use]
    pub fn in_memory(self, shutdown: Shutdown) -> Channel {
        let (connections, incoming) = mpsc::unbounded_channel::<DuplexStream>();
        let incoming = UnboundedReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
        tokio::spawn(self.serve_incoming(incoming, shutdown));
        // The connector makes the connection, so the address is never resolved.
        let endpoint = Endpoint::from_static("http://in-memory");
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let (client, server) = tokio::io::duplex(BUFFER_BYTES);
            let connected = connections.send(server);
            async move {
                connected.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
                Ok::<_, std::io::Error>(TokioIo::new(client))
            }
        }))
    }
}
