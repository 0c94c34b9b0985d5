//! A time limit until a client has said which protocol it speaks.
//!
//! hyper's own limits begin once the version of HTTP is known: for HTTP/1 its time for headers, for HTTP/2 its keepalive.
//! A client that says nothing, or stops in the middle of the preface of HTTP/2, would hold its connection for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// How a connection of HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reads fail with [`io::ErrorKind::TimedOut`] when the limit passes before its first bytes are the whole
/// preface of HTTP/2, or cannot become it.
pub struct ProtocolDetection<S> {
    stream: S,
    waiting: Option<Waiting>,
}

struct Waiting {
    limit: Pin<Box<Sleep>>,
    /// Bytes of the preface that have come.
    matched: usize,
}

impl<S> ProtocolDetection<S> {
    /// The time begins now.
    pub(crate) fn within(stream: S, limit: Duration) -> Self {
        let waiting = Waiting { limit: Box::pin(tokio::time::sleep(limit)), matched: 0 };
        Self { stream, waiting: Some(waiting) }
    }
}

impl Waiting {
    /// Whether the client has said enough, now that it has said `bytes` more.
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
        let Some(waiting) = &mut this.waiting else {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        };
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(context, buffer) else {
            ready!(waiting.limit.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        };
        if waiting.knows(&buffer.filled()[before..]) {
            this.waiting = None;
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
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const LATER: Duration = Duration::from_secs(60);

    fn connection() -> (DuplexStream, ProtocolDetection<DuplexStream>) {
        let (client, server) = duplex(1024);
        (client, ProtocolDetection::within(server, LIMIT))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_or_stops_in_the_preface_is_given_up() {
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
    async fn bytes_that_drip_do_not_win_time() {
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
    async fn a_client_that_has_said_what_it_speaks_may_take_its_time() {
        for said in [PREFACE, b"GET / HTTP/1.0\r\n", b"PRO", &[PREFACE, b"and more"].concat()] {
            let (mut client, mut server) = connection();
            // In two writes, since it need not come at once.
            client.write_all(&said[..2]).await.unwrap();
            server.read_exact(&mut [0; 2]).await.unwrap();
            client.write_all(&said[2..]).await.unwrap();
            server.read_exact(&mut vec![0; said.len() - 2]).await.unwrap();
            let later = tokio::spawn(async move { server.read_u8().await });
            tokio::time::sleep(LATER).await;
            client.write_u8(7).await.unwrap();
            assert_eq!(later.await.unwrap().unwrap(), 7);
        }
    }
}
