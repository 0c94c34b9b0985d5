//! Accepted connections, decrypted if the listener has a certificate.
//!
//! tonic's own TLS does not fit: it does not reload certificates and limits neither the time nor
//! the number of handshakes. `axum::serve` has no TLS.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::memory::{ConnectionGuard, ConnectionLimit};
use crate::{ServerTls, Shutdown};

/// The timeout of a TLS handshake. Slower clients are disconnected.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a system error, such as too many open files, that an immediate retry would meet
/// again.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// A connection: plain TCP or decrypted TLS.
pub(crate) type TcpConnection = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The connections of a listener, as a stream that ends at shutdown.
pub(crate) struct Incoming {
    connections: mpsc::Receiver<(TcpConnection, ConnectionGuard)>,
}

impl Incoming {
    /// Accepts on `listener` until shutdown. A handshake that hangs does not delay other
    /// connections.
    pub(crate) fn new(
        listener: TcpListener,
        tls: Option<ServerTls>,
        limit: ConnectionLimit,
        shutdown: Shutdown,
    ) -> Self {
        let (sender, connections) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                () = accept(listener, tls, limit, sender) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self { connections }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<ServerTls>,
    limit: ConnectionLimit,
    sender: mpsc::Sender<(TcpConnection, ConnectionGuard)>,
) {
    loop {
        let (connection, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        let Some(guard) = limit.open() else {
            tracing::debug!(%peer, "connection limit reached: refused");
            continue;
        };
        // Send small responses without waiting for more data. If this fails, they are only slower.
        let _ = connection.set_nodelay(true);
        let Some(tls) = tls.clone() else {
            if sender.send((Either::Left(connection), guard)).await.is_err() {
                return;
            }
            continue;
        };
        let sender = sender.clone();
        // The number of handshakes is bounded by the connection limit, which closes the oldest
        // silent ones, and the signatures at once by the threads that compute them.
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(connection));
            let handshake = tokio::select! {
                handshake = handshake => handshake,
                () = guard.connection().closed() => return,
            };
            match handshake {
                // Sending fails only if the server is gone.
                Ok(Ok(stream)) => drop(sender.send((Either::Right(Box::new(stream)), guard)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
            }
        });
    }
}

impl Stream for Incoming {
    type Item = (TcpConnection, ConnectionGuard);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(context)
    }
}
