//! Connections as they come in: over TCP, or over TLS where the listener has a certificate.

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

/// A connection whose peer is silent for this long is asked whether it lives.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// And is closed when it has not answered after this.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that does not finish its handshake in this time, or then does not say in this time which HTTP it speaks, is
/// let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at once; further connections wait in the system's backlog.
const MAX_HANDSHAKES: usize = 256;
/// After an error of the system, such as too many open files: what makes it pass takes time.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// The connections of one listener, as a stream that ends with shutdown.
pub struct Incoming {
    connections: mpsc::Receiver<ProtocolDetection<Connection>>,
}

impl Incoming {
    /// Accepts on `listener` until shutdown; a handshake that hangs holds back nobody else.
    #[must_use]
    pub fn new(listener: TcpListener, tls: Option<ServerTls>, shutdown: Shutdown) -> Self {
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
    let begin = |connection| ProtocolDetection::within(connection, HANDSHAKE_TIMEOUT);
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let (connection, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        // Small answers should not wait for more to send; a failure costs only that.
        let _ = connection.set_nodelay(true);
        let Some(tls) = tls.clone() else {
            if sender.send(begin(Connection::Left(connection))).await.is_err() {
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
                    // An error says that the server is gone.
                    let _ = sender.send(begin(Connection::Right(Box::new(stream)))).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
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

/// A connection: TCP as it is, or decrypted.
pub type Connection = Either<TcpStream, Box<TlsStream<TcpStream>>>;
