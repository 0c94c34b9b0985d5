//! The bodies of requests and replies, counted in the memory budget.

mod inbox;

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

pub(crate) use self::inbox::{Http2Body, Intake, split};
use crate::memory::{Call, CallGuard};

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request.
pub(crate) enum RequestBody {
    /// Over HTTP/1, with its call.
    Http1(Incoming, Arc<Call>),
    /// Over HTTP/2.
    Http2(Http2Body),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http1(body, call) => {
                let frame = Pin::new(body).poll_frame(context);
                call.set_waiting(frame.is_pending(), frame.is_pending());
                frame.map_err(Into::into)
            }
            Self::Http2(body) => Pin::new(body).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body, _) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body, _) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// The body of a reply over HTTP/1, whose bytes count against the memory budget until they are
/// written. The call is open until the body is dropped.
pub(crate) struct ReplyBody<B> {
    body: B,
    guard: Arc<CallGuard>,
}

impl<B> ReplyBody<B> {
    pub(crate) fn new(body: B, guard: Arc<CallGuard>) -> Self {
        Self { body, guard }
    }
}

impl<B> Body for ReplyBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = match frame.map_err(Into::into)?.into_data() {
            Ok(data) => {
                let held = self.guard.call().hold(data);
                Frame::data(held.map_err(|_| "the memory budget is exhausted")?)
            }
            Err(frame) => frame,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
