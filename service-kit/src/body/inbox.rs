//! The body of a request, between h2 and its handler.
//!
//! The stream's task moves frames out of h2 as soon as they arrive, whether or not the handler
//! reads. Small frames are copied together, because h2 takes 256 bytes for a frame of five. The
//! stream's window opens only when the handler reads, so a stream holds at most one window.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::Bytes;
use h2::{FlowControl, RecvStream};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::memory::{Call, Exhausted};

/// Frames that are shorter are copied together while they wait.
const SHORT_FRAME: usize = 4 << 10;

/// Bytes that have arrived and were not read.
#[derive(Default)]
struct Inbox {
    /// Every chunk but the last is as it arrived, or is not short.
    chunks: VecDeque<Bytes>,
    /// Short frames that arrived after `chunks`.
    short: Vec<u8>,
    trailers: Option<HeaderMap>,
    error: Option<h2::Error>,
    ended: bool,
    /// Set while the handler waits for more.
    reader: Option<Waker>,
    dropped: bool,
}

impl Inbox {
    fn push(&mut self, data: Bytes) {
        // The first frame is most often read at once, so it is not copied.
        if self.chunks.is_empty() && self.short.is_empty() {
            return self.chunks.push_back(data);
        }
        if data.len() < SHORT_FRAME {
            return self.short.extend_from_slice(&data);
        }
        if !self.short.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.short).into());
        }
        self.chunks.push_back(data);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let next = self.chunks.pop_front();
        next.or_else(|| (!self.short.is_empty()).then(|| std::mem::take(&mut self.short).into()))
    }

    fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum::<usize>() + self.short.len()
    }

    /// Whether the body has ended and everything was read.
    fn is_finished(&self) -> bool {
        self.ended
            && self.chunks.is_empty()
            && self.short.is_empty()
            && self.trailers.is_none()
            && self.error.is_none()
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Inbox>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of the stream's task: moves frames from h2 to the inbox.
pub(crate) struct Intake {
    /// `None` once the body has ended.
    stream: Option<RecvStream>,
    inbox: Shared,
    call: Arc<Call>,
    /// Bytes of the inbox that are counted.
    counted: usize,
}

/// The part of the handler.
pub(crate) struct Http2Body {
    inbox: Shared,
    flow: FlowControl,
    /// Bytes that the client announced and the handler has not read.
    announced: Option<u64>,
}

/// Splits the body of a request for its two tasks.
pub(crate) fn split(mut stream: RecvStream, announced: Option<u64>, call: Arc<Call>) -> (Intake, Http2Body) {
    let inbox = Shared::default();
    let flow = stream.flow_control().clone();
    inbox.lock().ended = stream.is_end_stream();
    let stream = (!stream.is_end_stream()).then_some(stream);
    (Intake { stream, inbox: inbox.clone(), call, counted: 0 }, Http2Body { inbox, flow, announced })
}

impl Intake {
    /// Moves what has arrived, and wakes the handler. Returns whether anything arrived.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut arrived = false;
        // Without a reader, bytes are discarded. Nobody opens the window again, so the client stops
        // sending.
        let discard = self.inbox.lock().dropped;
        let ended = loop {
            let Poll::Ready(data) = stream.poll_data(context) else { break false };
            arrived = true;
            let mut inbox = self.inbox.lock();
            match data {
                // An empty frame carries nothing, and hints at no end.
                Some(Ok(data)) if data.is_empty() || discard => {}
                Some(Ok(data)) => inbox.push(data),
                Some(Err(error)) => {
                    inbox.error = Some(error);
                    break true;
                }
                None => {
                    drop(inbox);
                    match stream.poll_trailers(context) {
                        Poll::Pending => break false,
                        Poll::Ready(Ok(trailers)) => self.inbox.lock().trailers = trailers,
                        Poll::Ready(Err(error)) => self.inbox.lock().error = Some(error),
                    }
                    break true;
                }
            }
        };
        if ended {
            self.stream = None;
        }
        if arrived {
            let mut inbox = self.inbox.lock();
            inbox.ended |= ended;
            // The stream's task polls its handler next.
            if let Some(reader) = inbox.reader.take().filter(|reader| !reader.will_wake(context.waker())) {
                reader.wake();
            }
        }
        arrived
    }

    /// Whether the client may still send.
    pub(crate) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Counts what the handler left in the inbox, and returns whether the handler waits for more.
    pub(crate) fn settle(&mut self) -> Result<bool, Exhausted> {
        let mut inbox = self.inbox.lock();
        let left = inbox.bytes();
        if left > 0
            && let Some(first) = inbox.chunks.front_mut()
            && first.len() < SHORT_FRAME
        {
            // Gives back the read buffer that the frame is a part of.
            *first = Bytes::copy_from_slice(first);
        }
        let waits = inbox.reader.is_some() && !inbox.ended;
        drop(inbox);
        let counted = std::mem::replace(&mut self.counted, left);
        if left > counted {
            self.call.take(left - counted).inspect_err(|_| self.counted = counted)?;
        } else {
            self.call.release(counted - left);
        }
        Ok(waits)
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.call.release(self.counted);
        let mut inbox = self.inbox.lock();
        if !inbox.ended {
            // A handler that outlives its stream gets an error instead of an early end.
            inbox.error.get_or_insert_with(|| h2::Reason::CANCEL.into());
            inbox.ended = true;
        }
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        let mut inbox = self.inbox.lock();
        inbox.dropped = true;
        inbox.chunks.clear();
        inbox.short = Vec::new();
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let mut inbox = self.inbox.lock();
        if let Some(data) = inbox.pop() {
            drop(inbox);
            let read = data.len();
            // Fails only if the stream has ended, and then nobody needs the window.
            let _ = self.flow.release_capacity(read);
            self.announced = self.announced.map(|bytes| bytes.saturating_sub(read as u64));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(error) = inbox.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(trailers) = inbox.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if inbox.ended {
            return Poll::Ready(None);
        }
        inbox.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inbox.lock().is_finished()
    }

    fn size_hint(&self) -> SizeHint {
        match self.announced {
            Some(bytes) => SizeHint::with_exact(bytes),
            None if self.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}
