//! One stream: a request, its handler, and the reply as far as the client reads it.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tokio::time::Sleep;
use tower::{Service, ServiceExt as _};

use crate::body::{Intake, RequestBody, split};
use crate::memory::{Call, CallGuard};

/// How long a reply may make no progress because its client does not read it.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may go on sending a request that was answered.
const LINGER: Duration = Duration::from_secs(1);
/// The reply bytes of a stream that h2 may hold until the socket accepts them.
pub(super) const SEND_BUFFER: usize = 64 << 10;

type BoxError = Box<dyn Error + Send + Sync>;

/// The service behind a connection.
pub(crate) trait CallService:
    Service<Request<RequestBody>, Response = Response<Self::Reply>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
    /// The body of a reply.
    type Reply: Body<Data = Bytes, Error: Into<BoxError>> + Send;
}

impl<S, B> CallService for S
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send,
{
    type Reply = B;
}

/// Why a stream ends before its reply.
enum Ended {
    /// The client reset it or left.
    Gone,
    /// It must be reset.
    Reset(Reason),
}

impl From<h2::Error> for Ended {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

/// Serves a stream to its end.
pub(super) async fn serve<S: CallService>(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    service: S,
    guard: CallGuard,
) {
    let (mut parts, stream) = request.into_parts();
    let announced = parts.headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let (intake, body) = split(stream, announced, guard.call().clone());
    guard.call().describe(&mut parts.extensions);
    let request = Request::from_parts(parts, RequestBody::Http2(body));
    let mut stream = Stream { respond, intake, call: guard.call().clone(), stalled: None };
    match stream.run(service.oneshot(request)).await {
        Ok(()) => stream.linger().await,
        Err(Ended::Gone) => {}
        Err(Ended::Reset(reason)) => {
            tracing::debug!(%reason, "stream reset");
            stream.respond.send_reset(reason);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a reply says when it was written")]
fn now() -> HeaderValue {
    let date = Bytes::from(httpdate::fmt_http_date(SystemTime::now()));
    HeaderValue::from_maybe_shared(date).expect("a date is ASCII")
}

struct Stream {
    respond: SendResponse<Bytes>,
    intake: Intake,
    call: Arc<Call>,
    /// Fires when the client has not read for too long; set while the reply waits for it.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    async fn run<F, B>(&mut self, response: F) -> Result<(), Ended>
    where
        F: Future<Output = Result<Response<B>, Infallible>>,
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let response = {
            let mut response = pin!(response);
            poll_fn(|context| self.poll_response(response.as_mut(), context)).await?
        };
        let (mut head, body) = response.into_parts();
        // RFC 9110, 6.6.1: a server with a clock sends it. hyper does so over HTTP/1.
        head.headers.entry(DATE).or_insert_with(now);
        if body.is_end_stream() {
            self.respond.send_response(Response::from_parts(head, ()), true)?;
            return Ok(());
        }
        if let Some(length) = body.size_hint().exact() {
            head.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        }
        let mut send = self.respond.send_response(Response::from_parts(head, ()), false)?;
        let mut body = pin!(body);
        let mut waiting = None;
        poll_fn(|context| self.poll_reply(&mut send, body.as_mut(), &mut waiting, context)).await
    }

    /// Lets a client finish a request that was answered early. Some clients, such as curl, report
    /// a reset in place of the reply if it arrives while they send.
    async fn linger(&mut self) {
        if !self.intake.is_open() {
            return;
        }
        let finished = poll_fn(|context| {
            let waits = self.begin(context).and_then(|arrived| self.settle(&Wait::Request { arrived }));
            if waits.is_ok() && self.intake.is_open() { Poll::Pending } else { Poll::Ready(()) }
        });
        let _ = tokio::time::timeout(LINGER, finished).await;
    }

    /// What every poll begins with. Returns whether request bytes arrived.
    fn begin(&mut self, context: &mut Context<'_>) -> Result<bool, Ended> {
        if self.call.poll_evicted(context.waker()) {
            return Err(Ended::Reset(Reason::ENHANCE_YOUR_CALM));
        }
        Ok(self.intake.poll(context))
    }

    fn poll_response<F, B>(
        &mut self,
        response: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<B>, Ended>>
    where
        F: Future<Output = Result<Response<B>, Infallible>>,
    {
        let arrived = self.begin(context)?;
        if let Poll::Ready(Ok(response)) = response.poll(context) {
            return Poll::Ready(Ok(response));
        }
        // Registers for the client's reset, which cancels the handler.
        if self.respond.poll_reset(context)?.is_ready() {
            return Poll::Ready(Err(Ended::Gone));
        }
        self.settle(&Wait::Request { arrived })?;
        Poll::Pending
    }

    /// Sends the reply as far as the client's window allows.
    fn poll_reply<B>(
        &mut self,
        send: &mut SendStream<Bytes>,
        mut body: Pin<&mut B>,
        waiting: &mut Option<Bytes>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Ended>>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let arrived = self.begin(context)?;
        let mut has_read = false;
        if send.poll_reset(context)?.is_ready() {
            return Poll::Ready(Err(Ended::Gone));
        }
        loop {
            if let Some(data) = waiting {
                let Poll::Ready(granted) = poll_capacity(send, data.len().min(SEND_BUFFER), context)? else {
                    self.stall(context)?;
                    self.settle(&Wait::Reader { has_read })?;
                    return Poll::Pending;
                };
                has_read = true;
                self.stalled = None;
                let part = data.split_to(granted.min(data.len()));
                let whole = data.is_empty();
                let last = whole && body.is_end_stream();
                if whole {
                    *waiting = None;
                }
                send.send_data(part, last)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let Poll::Ready(frame) = body.as_mut().poll_frame(context) else {
                self.settle(&Wait::Request { arrived })?;
                return Poll::Pending;
            };
            let Some(frame) = frame else {
                send.send_data(Bytes::new(), true)?;
                return Poll::Ready(Ok(()));
            };
            let frame = frame.map_err(|_| Ended::Reset(Reason::INTERNAL_ERROR))?;
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    let held = self.call.hold(data);
                    *waiting = Some(held.map_err(|_| Ended::Reset(Reason::ENHANCE_YOUR_CALM))?);
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        send.send_trailers(trailers)?;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Starts the timeout of a reply that waits for its client, or fails when it is over.
    fn stall(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        let timeout = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(REPLY_TIMEOUT)));
        match timeout.as_mut().poll(context) {
            Poll::Ready(()) => Err(Ended::Reset(Reason::CANCEL)),
            Poll::Pending => Ok(()),
        }
    }

    /// What every poll that must wait ends with.
    fn settle(&mut self, wait: &Wait) -> Result<(), Ended> {
        let exhausted = |_| Ended::Reset(Reason::ENHANCE_YOUR_CALM);
        let waits_for_request = self.intake.settle().map_err(exhausted)?;
        match wait {
            Wait::Reader { has_read } => self.call.set_waiting(true, *has_read),
            Wait::Request { arrived } => self.call.set_waiting(waits_for_request, *arrived),
        }
        Ok(())
    }
}

/// What a stream waits for.
enum Wait {
    /// The client, to read its reply. `has_read` says whether it has just read some.
    Reader { has_read: bool },
    /// The handler, which may wait for the client's next request bytes. `arrived` says whether some
    /// have just arrived.
    Request { arrived: bool },
}

/// Waits until the client's windows and the send buffer have room. Returns for how many bytes, up
/// to `wanted`.
fn poll_capacity(
    send: &mut SendStream<Bytes>,
    wanted: usize,
    context: &mut Context<'_>,
) -> Poll<Result<usize, h2::Error>> {
    send.reserve_capacity(wanted);
    while send.capacity() == 0 {
        match ready!(send.poll_capacity(context)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(Reason::CANCEL.into())),
        }
    }
    Poll::Ready(Ok(send.capacity()))
}
