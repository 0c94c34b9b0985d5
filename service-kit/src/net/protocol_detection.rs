//! The protocol-detection timeout: how long a client may take until its protocol is known.
//!
//! hyper's own timeouts start once the version of HTTP is known: the header timeout of HTTP/1, the
//! keepalive of HTTP/2. Without this timeout, a client that sends nothing, or stops within the
//! HTTP/2 preface, would hold its connection forever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use crate::Caller;

/// The client connection preface of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reads fail with [`io::ErrorKind::TimedOut`] if its protocol is not known in time.
///
/// The protocol is known once the first bytes are the whole HTTP/2 preface, or differ from it.
pub(crate) struct ProtocolDetection<S> {
    stream: S,
    caller: Caller,
    /// `None` once the protocol is known.
    detecting: Option<Detecting>,
}

struct Detecting {
    timeout: Pin<Box<Sleep>>,
    /// Bytes of the preface received so far.
    matched: usize,
}

impl<S> ProtocolDetection<S> {
    /// Starts the timeout now.
    pub(crate) fn new(stream: S, timeout: Duration) -> Self {
        let detecting = Detecting { timeout: Box::pin(tokio::time::sleep(timeout)), matched: 0 };
        Self { stream, caller: Caller::of_new_connection(), detecting: Some(detecting) }
    }
}

impl Detecting {
    /// Whether the protocol is known after `bytes` more.
    fn knows(&mut self, bytes: &[u8]) -> bool {
        let same =
            bytes.iter().zip(&PREFACE[self.matched..]).take_while(|(found, expected)| found == expected);
        let same = same.count();
        self.matched += same;
        same < bytes.len() || self.matched == PREFACE.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ProtocolDetection<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(detecting) = &mut this.detecting else {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        };
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) else {
            ready!(detecting.timeout.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        };
        if detecting.knows(&buffer.filled()[before..]) {
            this.detecting = None;
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ProtocolDetection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Connected for ProtocolDetection<S> {
    type ConnectInfo = Caller;

    /// Returns the caller of the connection, which tonic puts into the extensions of each request.
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const LATER: Duration = Duration::from_secs(60);

    fn connection() -> (DuplexStream, ProtocolDetection<DuplexStream>) {
        let (client, server) = duplex(1024);
        (client, ProtocolDetection::new(server, LIMIT))
    }

    #[tokio::test(start_paused = true)]
    async fn disconnects_a_client_that_is_silent_or_stops_in_the_preface() {
        for length in [0, 1, PREFACE.len() - 1] {
            let (mut client, mut server) = connection();
            client.write_all(&PREFACE[..length]).await.unwrap();
            let begin = tokio::time::Instant::now();
            let error = server.read_exact(&mut [0; PREFACE.len()]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{length} bytes");
            assert!(begin.elapsed() >= LIMIT && begin.elapsed() < LATER);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn single_bytes_do_not_extend_the_timeout() {
        let (mut client, mut server) = connection();
        tokio::spawn(async move {
            for byte in PREFACE {
                let _ = client.write_u8(*byte).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(server.read_exact(&mut [0; PREFACE.len()]).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn has_no_timeout_once_the_protocol_is_known() {
        for first_bytes in [PREFACE, b"GET / HTTP/1.0\r\n", b"PRO", &[PREFACE, b"and more"].concat()] {
            let (mut client, mut server) = connection();
            // The first bytes may arrive in several reads.
            client.write_all(&first_bytes[..2]).await.unwrap();
            server.read_exact(&mut [0; 2]).await.unwrap();
            client.write_all(&first_bytes[2..]).await.unwrap();
            server.read_exact(&mut vec![0; first_bytes.len() - 2]).await.unwrap();
            let later = tokio::spawn(async move { server.read_u8().await });
            tokio::time::sleep(LATER).await;
            client.write_u8(7).await.unwrap();
            assert_eq!(later.await.unwrap().unwrap(), 7);
        }
    }
}
