//! Protocol detection: HTTP/1 or HTTP/2, from the first bytes of a connection.
//!
//! The timeouts of each protocol start once the protocol is known: the header timeout of HTTP/1,
//! the keepalive of HTTP/2. Without a timeout here, a client that sends nothing, or stops within
//! the HTTP/2 preface, would hold its connection forever. hyper-util's own detection has none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// The client connection preface of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The protocol-detection timeout.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The version of HTTP that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Its first bytes differ from the preface of HTTP/2.
    Http1,
    /// Its first bytes are the preface.
    Http2,
}

/// Reads the first bytes of `stream`, and returns the protocol and the whole stream.
///
/// # Errors
/// Fails if the stream fails or ends, or with [`io::ErrorKind::TimedOut`] if the protocol is not
/// known in time.
pub(crate) async fn detect<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Protocol, Rewound<S>)> {
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    let protocol = async {
        while length < first.len() {
            let read = stream.read(&mut first[length..]).await?;
            length += read;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            if first[..length] != PREFACE[..length] {
                return Ok(Protocol::Http1);
            }
        }
        Ok(Protocol::Http2)
    };
    let protocol = tokio::time::timeout(TIMEOUT, protocol).await??;
    Ok((protocol, Rewound { first, unread: (0, length), stream }))
}

/// A stream whose first bytes were read, and are read again.
pub(crate) struct Rewound<S> {
    first: [u8; PREFACE.len()],
    /// The part of `first` that was not read again.
    unread: (usize, usize),
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (begin, end) = this.unread;
        if begin == end {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let count = buffer.remaining().min(end - begin);
        buffer.put_slice(&this.first[begin..begin + count]);
        this.unread.0 += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn disconnects_a_client_that_is_silent_or_stops_in_the_preface() {
        for length in [0, 1, PREFACE.len() - 1] {
            let (mut client, server) = duplex(1024);
            client.write_all(&PREFACE[..length]).await.unwrap();
            let begin = tokio::time::Instant::now();
            let error = detect(server).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{length} bytes");
            assert!(begin.elapsed() >= TIMEOUT && begin.elapsed() < 2 * TIMEOUT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn single_bytes_do_not_extend_the_timeout() {
        let (mut client, server) = duplex(1024);
        tokio::spawn(async move {
            for byte in PREFACE {
                let _ = client.write_u8(*byte).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(detect(server).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn tells_the_protocols_apart_and_loses_no_byte() {
        for (first_bytes, expected) in [
            (PREFACE.to_vec(), Protocol::Http2),
            ([PREFACE, b"and more".as_slice()].concat(), Protocol::Http2),
            (b"GET / HTTP/1.0\r\n".to_vec(), Protocol::Http1),
            (b"PRO".to_vec(), Protocol::Http1),
        ] {
            let (mut client, server) = duplex(1024);
            let sent = first_bytes.clone();
            tokio::spawn(async move {
                // The first bytes may arrive in several reads.
                client.write_all(&sent[..2]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
                client.write_all(&sent[2..]).await.unwrap();
            });
            let (protocol, mut stream) = detect(server).await.unwrap();
            assert_eq!(protocol, expected, "{first_bytes:?}");
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, first_bytes);
        }
    }
}
