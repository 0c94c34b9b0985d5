//! Accepted connections, decrypted if the listener has a certificate.
//!
//! tonic's own TLS does not fit: it does not reload certificates and limits neither the time nor
//! the number of handshakes. `axum::serve` has no TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::net::protocol_detection::ProtocolDetection;
use crate::{ServerTls, Shutdown};

/// How long a connection may be silent before a keepalive ping is sent.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the peer has to answer the ping before the connection is closed.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a TLS handshake, and the protocol-detection timeout. Slower clients are
/// disconnected.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum number of handshakes in flight. Further connections wait in the system's backlog.
const MAX_HANDSHAKES: usize = 256;
/// The pause after a system error, such as too many open files, that an immediate retry would meet
/// again.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// The connections of a listener, as a stream that ends at shutdown.
pub(crate) struct Incoming {
    connections: mpsc::Receiver<ProtocolDetection<Connection>>,
}

impl Incoming {
    /// Accepts on `listener` until shutdown. A handshake that hangs does not delay other
    /// connections.
    pub(crate) fn new(listener: TcpListener, tls: Option<ServerTls>, shutdown: Shutdown) -> Self {
        let (sender, connections) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = accept(listener, tls, sender) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self { connections }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<ServerTls>,
    sender: mpsc::Sender<ProtocolDetection<Connection>>,
) {
    let detect = |connection| ProtocolDetection::new(connection, HANDSHAKE_TIMEOUT);
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let (connection, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        // Send small responses without waiting for more data. If this fails, they are only slower.
        let _ = connection.set_nodelay(true);
        let Some(tls) = tls.clone() else {
            if sender.send(detect(Connection::Left(connection))).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let sender = sender.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(connection)).await {
                Ok(Ok(stream)) => {
                    drop(permit);
                    // Sending fails only if the server is gone.
                    let _ = sender.send(detect(Connection::Right(Box::new(stream)))).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
            }
        });
    }
}

impl Stream for Incoming {
    type Item = io::Result<ProtocolDetection<Connection>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(context).map(|next| next.map(Ok))
    }
}

/// A connection: plain TCP or decrypted TLS.
pub(crate) type Connection = Either<TcpStream, Box<TlsStream<TcpStream>>>;
