//! Connections as they come in: over TCP, or over TLS where the listener has a certificate.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::net::protocol_detection::FirstBytes;
use crate::{ServerTls, Shutdown};

/// A client that does not finish its handshake in this time, or then does not say in this time which HTTP it speaks, is
/// let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at once; further connections wait in the system's backlog.
const MAX_HANDSHAKES: usize = 256;
/// After an error of the system, such as too many open files: what makes it pass takes time.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// The connections of one listener, as a stream that ends with shutdown.
pub struct Incoming {
    connections: mpsc::Receiver<FirstBytes<Connection>>,
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

async fn accept(listener: TcpListener, tls: Option<ServerTls>, sender: mpsc::Sender<FirstBytes<Connection>>) {
    let begin = |connection| FirstBytes::within(connection, HANDSHAKE_TIMEOUT);
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
            if sender.send(begin(Connection::Plain(connection))).await.is_err() {
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
                    let _ = sender.send(begin(Connection::Tls(Box::new(stream)))).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
}

impl Stream for Incoming {
    type Item = io::Result<FirstBytes<Connection>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(context).map(|next| next.map(Ok))
    }
}

/// One connection.
pub enum Connection {
    /// As it came.
    Plain(TcpStream),
    /// Decrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Option<SocketAddr>;

    fn connect_info(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
