//! Serves the connections of a listener, of either kind, until shutdown.
//!
//! `tonic::transport::Server` and `axum::serve` do not fit: see `http2` and [`Incoming`].
//!
//! [`Incoming`]: super::incoming::Incoming

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;
use tower::{ServiceExt as _, service_fn};

use super::protocol_detection::{Protocol, detect};
use super::write_timeout::WriteTimeout;
use crate::body::{ReplyBody, RequestBody};
use crate::http2::{CallService, ConnectionRules, head_bytes, serve_http2};
use crate::memory::{CallGuard, ConnectionGuard};
use crate::{ApiError, Shutdown};

/// The timeout for the headers of an HTTP/1 request, and for the next request on an idle
/// connection.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// The bytes of an HTTP/1 connection's buffers: the longest headers, and a reply until it is
/// written.
const HTTP1_BUFFER: usize = 16 << 10;
/// What a listener serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listens {
    /// gRPC, which needs HTTP/2.
    Grpc {
        /// The text for clients of HTTP/1.
        refusal: Arc<str>,
        /// The rules of each connection.
        rules: ConnectionRules,
    },
    /// HTTP/1 and HTTP/2.
    Http,
}

/// Serves `incoming` until `closing` or its end. Then lets calls in flight run for up to `drain`.
pub(crate) async fn serve_connections<I, C, S>(
    incoming: I,
    listens: Listens,
    service: S,
    drain: Duration,
    closing: Shutdown,
) where
    I: Stream<Item = (C, ConnectionGuard)>,
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: CallService<Reply: Unpin> + Sync,
{
    let connections = TaskTracker::new();
    {
        // Dropped before the drain, which closes the listener.
        let mut incoming = pin!(incoming);
        while let Some(Some((stream, guard))) = closing.run_until_cancelled(incoming.next()).await {
            let connection =
                serve_connection(stream, listens.clone(), service.clone(), guard, closing.clone());
            connections.spawn(connection);
        }
    }
    connections.close();
    // Without shutdown, `incoming` has ended, and its connections go on.
    let drained = async {
        closing.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        () = connections.wait() => {}
        () = drained => {
            tracing::warn!(seconds = drain.as_secs_f64(), "calls were still in flight after the drain time");
        }
    }
}

async fn serve_connection<C, S>(
    stream: C,
    listens: Listens,
    service: S,
    guard: ConnectionGuard,
    closing: Shutdown,
) where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: CallService<Reply: Unpin> + Sync,
{
    let detected = tokio::select! {
        detected = detect(stream) => detected,
        () = guard.connection().closed() => return,
        () = closing.cancelled() => return,
    };
    let (protocol, stream) = match detected {
        Ok(detected) => detected,
        Err(error) => return tracing::debug!(%error, "connection closed before its protocol was known"),
    };
    let stream = WriteTimeout::new(stream, guard.connection().clone());
    match (protocol, listens) {
        (Protocol::Http2, listens) => {
            let rules = match listens {
                Listens::Grpc { rules, .. } => rules,
                Listens::Http => ConnectionRules::of_http(),
            };
            if let Err(error) = serve_http2(stream, service, &rules, guard.connection(), closing).await {
                tracing::debug!(%error, "HTTP/2 connection failed");
            }
        }
        (Protocol::Http1, Listens::Http) => serve_http1(stream, service, &guard, closing).await,
        (Protocol::Http1, Listens::Grpc { refusal, .. }) => {
            let refuse = service_fn(move |_: Request<RequestBody>| {
                std::future::ready(Ok::<_, Infallible>(needs_http2(&refusal)))
            });
            serve_http1(stream, refuse, &guard, closing).await;
        }
    }
}

/// Answers a client of HTTP/1 at a gRPC listener.
fn needs_http2(refusal: &str) -> Response<axum::body::Body> {
    let mut response = Response::new(axum::body::Body::from(refusal.to_owned()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn serve_http1<IO, S>(stream: IO, service: S, guard: &ConnectionGuard, closing: Shutdown)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: CallService<Reply: Unpin> + Sync,
{
    let connection = guard.connection();
    let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
        let (service, opened) = (service.clone(), CallGuard::open(connection, head_bytes(&request), true));
        async move {
            let Ok(guard) = opened.map(Arc::new) else {
                return Ok::<_, Infallible>(ApiError::no_memory().to_http().map(axum::body::Body::new));
            };
            let mut request = request.map(|body| RequestBody::Http1(body, guard.call().clone()));
            guard.call().describe(request.extensions_mut());
            let Ok(response) = service.oneshot(request).await;
            Ok(response.map(|body| axum::body::Body::new(ReplyBody::new(body, guard))))
        }
    });
    let mut exchange = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_TIMEOUT)
            .max_buf_size(HTTP1_BUFFER)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = &mut exchange => ended,
        () = connection.closed() => return,
        () = closing.cancelled() => {
            exchange.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut exchange => ended,
                () = connection.closed() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP/1 connection failed");
    }
}
