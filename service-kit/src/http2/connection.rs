//! A connection: streams, keepalive, shutdown.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use h2::server::{Builder, Connection as H2Connection, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::rules::{AgeTimer, Aged, ConnectionRules};
use super::stream::{self, CallService, SEND_BUFFER};
use crate::Shutdown;
use crate::memory::{CallGuard, Connection};

/// How long the peer's system has to accept a GOAWAY when its connection must make room for others.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The request bytes of a stream that its handler has not read. The window opens when it reads.
pub(super) const STREAM_WINDOW: u32 = 64 << 10;
/// The longest list of headers, in bytes.
const MAX_HEADERS: u32 = 16 << 10;
/// The bytes that h2 reserves for each small DATA frame of its budget.
const SMALL_FRAME: usize = 256;
/// The bytes of the shortest gRPC message.
const SHORTEST_MESSAGE: usize = 5;
/// How many streams may fill their windows with the shortest messages before any of them is polled.
/// Streams move their frames out of h2 whenever they are polled, so that frames wait there only
/// until the connection's task, which reads a limited number of times, makes way.
const UNPOLLED_STREAMS: usize = 16;
/// h2 closes a connection whose small DATA frames exceed its budget. This budget exceeds what flow
/// control lets in, so that it never closes that of a client that respects its windows.
const SMALL_FRAMES_BUDGET: usize =
    UNPOLLED_STREAMS * (STREAM_WINDOW as usize / SHORTEST_MESSAGE) * SMALL_FRAME;

/// Serves a connection until it closes. After `closing`, or when it is too old, accepts no new streams and lets open ones
/// end.
///
/// # Errors
/// Fails if the peer violates the protocol, answers no ping, or the connection breaks.
pub(crate) async fn serve_http2<IO, S>(
    io: IO,
    service: S,
    rules: &ConnectionRules,
    connection: &Arc<Connection>,
    closing: Shutdown,
) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: CallService,
{
    let max_streams = rules.max_streams;
    let handshake = Builder::new()
        .max_concurrent_streams(max_streams)
        .initial_window_size(STREAM_WINDOW)
        // Streams have their own windows, and what they hold is in the memory budget. A smaller
        // window would let a stream that its handler does not read stop all others.
        .initial_connection_window_size(max_streams * STREAM_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADERS)
        // A client may cancel all of its calls at once. One that opens and cancels calls in a loop
        // (CVE-2023-44487) exceeds this soon.
        .max_pending_accept_reset_streams(max_streams as usize)
        .data_frame_budget(SMALL_FRAMES_BUDGET)
        .handshake::<_, Bytes>(io);
    let mut h2 = {
        let mut handshake = pin!(handshake);
        let mut closed = pin!(connection.closed());
        tokio::select! {
            h2 = &mut handshake => h2?,
            () = &mut closed => return Ok(()),
        }
    };
    let mut keepalive = h2.ping_pong().map(|pings| Keepalive::new(pings, rules));
    let mut age = rules.max_age.map(AgeTimer::new);
    let mut closed = pin!(connection.closed());
    let mut closing = pin!(closing.cancelled_owned());
    let (mut end, mut is_closing) = (None::<Pin<Box<Sleep>>>, false);
    poll_fn(|context| {
        if let Some(end) = &mut end {
            if end.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
        } else if closed.as_mut().poll(context).is_ready() {
            end = Some(Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
            // Says which calls were processed, so that a client repeats one that has just begun.
            let reason = if connection.is_idle() { Reason::NO_ERROR } else { Reason::ENHANCE_YOUR_CALM };
            h2.abrupt_shutdown(reason);
            context.waker().wake_by_ref();
        }
        if !is_closing && closing.as_mut().poll(context).is_ready() {
            is_closing = true;
            h2.graceful_shutdown();
        }
        // Again, because the timer of the next step must be registered.
        while end.is_none()
            && let Some(Poll::Ready(step)) = age.as_mut().map(|age| age.poll(context))
        {
            match step {
                // Says which calls are processed only after a round trip, so that none is lost.
                Aged::Retires => h2.graceful_shutdown(),
                Aged::Ends => {
                    end = Some(Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
                    h2.abrupt_shutdown(Reason::NO_ERROR);
                }
            }
            context.waker().wake_by_ref();
        }
        if let Some(keepalive) = &mut keepalive
            && keepalive.poll_failed(context).is_ready()
        {
            return Poll::Ready(Err(Reason::NO_ERROR.into()));
        }
        accept(&mut h2, &service, connection, context)
    })
    .await
}

/// Accepts streams until the connection ends.
fn accept<IO, S>(
    h2: &mut H2Connection<IO, Bytes>,
    service: &S,
    connection: &Arc<Connection>,
    context: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: CallService,
{
    loop {
        match h2.poll_accept(context) {
            Poll::Ready(Some(Ok((request, respond)))) => begin(request, respond, service, connection),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Pending => return Poll::Pending,
        }
    }
}

fn begin<S: CallService>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    service: &S,
    connection: &Arc<Connection>,
) {
    if request.method() == Method::CONNECT {
        return respond.send_reset(Reason::CONNECT_ERROR);
    }
    match CallGuard::open(connection, head_bytes(&request), false) {
        Ok(guard) => {
            tokio::spawn(stream::serve(request, respond, service.clone(), guard));
        }
        // Says that the request was not processed, so that any call may be retried.
        Err(_) => respond.send_reset(Reason::REFUSED_STREAM),
    }
}

/// The bytes of a request's path and headers.
pub(crate) fn head_bytes<B>(request: &Request<B>) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum::<usize>() + path
}

/// Pings the peer at intervals.
struct Keepalive {
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    interval: Duration,
    timeout: Duration,
    waiting: bool,
}

impl Keepalive {
    fn new(pings: PingPong, rules: &ConnectionRules) -> Self {
        let (interval, timeout) = (rules.keepalive_interval, rules.keepalive_timeout);
        Self { pings, timer: Box::pin(tokio::time::sleep(interval)), interval, timeout, waiting: false }
    }

    /// Is ready once the peer has not answered a ping in time.
    fn poll_failed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting && self.pings.poll_pong(context).is_ready() {
                // An error ends the connection, too.
                self.restart(self.interval);
                self.waiting = false;
            }
            std::task::ready!(self.timer.as_mut().poll(context));
            if self.waiting {
                return Poll::Ready(());
            }
            self.waiting = self.pings.send_ping(Ping::opaque()).is_ok();
            self.restart(if self.waiting { self.timeout } else { self.interval });
        }
    }

    fn restart(&mut self, after: Duration) {
        self.timer.as_mut().reset(Instant::now() + after);
    }
}
