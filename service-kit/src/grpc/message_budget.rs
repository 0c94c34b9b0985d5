//! A bound on the bytes of messages in requests that have not ended, over all calls of a server.
//!
//! A limit on each message does not bound memory, because any number of clients can send most of a
//! message and then stop, or send all of it and never end the request. tonic keeps the message of a
//! unary call, and a buffer of its length, until the request ends. Of a stream it keeps a buffer as
//! long as the longest message so far. So a request counts as its longest message, finished or not,
//! until it ends.
//!
//! A call that would exceed the budget is rejected, as in any other overload. A call that waits for
//! the rest of its request is evicted when others need its bytes. A request that arrives in one
//! piece, as nearly all do, costs nothing. Nothing limits the time after a finished message, because
//! this layer does not know whether the method is a stream, which may be quiet. The body limits of
//! axum and tower-http do not fit: they bound one body, not the sum over all.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use crate::memory::Call;
use crate::{ApiError, MemoryBudget};

type BoxError = Box<dyn Error + Send + Sync>;

/// The time from a message's first byte to its last.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The retry hint of a call over the budget.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Counts the messages of all unfinished requests in a memory budget. Clones share it.
#[derive(Debug, Clone)]
pub struct MessageBudget {
    memory: MemoryBudget,
}

impl MessageBudget {
    /// Counts in `memory`.
    #[must_use]
    pub fn new(memory: MemoryBudget) -> Self {
        Self { memory }
    }

    /// Wraps a body that is a single message.
    #[must_use]
    pub fn single_message<B>(&self, request: Request<B>) -> Request<BudgetedBody<B>> {
        self.budgeted(request, None)
    }

    /// Wraps a body of gRPC messages, each preceded by its length.
    #[must_use]
    pub fn grpc_messages<B>(&self, request: Request<B>) -> Request<BudgetedBody<B>> {
        self.budgeted(request, Some(Framing::default()))
    }

    fn budgeted<B>(&self, request: Request<B>, framing: Option<Framing>) -> Request<BudgetedBody<B>> {
        let call = request.extensions().get().cloned();
        let memory = self.memory.clone();
        request.map(|body| BudgetedBody { body, memory, call, framing, longest: 0, held: 0, timeout: None })
    }
}

/// A body whose longest message counts against a [`MessageBudget`] until the body ends.
///
/// It fails if the budget is exceeded or the message is not finished in time: with a [`Status`] if
/// it is a body of gRPC messages, else with an [`ApiError`].
pub struct BudgetedBody<B> {
    body: B,
    memory: MemoryBudget,
    call: Option<Arc<Call>>,
    framing: Option<Framing>,
    /// The bytes of the longest gRPC message that is finished.
    longest: usize,
    held: usize,
    /// Set while a gRPC message is unfinished.
    timeout: Option<Pin<Box<Sleep>>>,
}

impl<B> BudgetedBody<B> {
    /// Converts to the error type that the reader of the body expects.
    fn to_body_error(&self, error: ApiError) -> BoxError {
        if self.framing.is_some() { Status::from(error).into() } else { error.into() }
    }

    fn take(&self, bytes: usize) -> Result<(), ApiError> {
        let taken = match &self.call {
            Some(call) => call.take(bytes),
            None => self.memory.take(bytes, false),
        };
        taken.map_err(|exhausted| ApiError::Overloaded {
            message: format!("unfinished messages exceed their budget of {} bytes", exhausted.limit),
            retry_after: RETRY_AFTER,
        })
    }

    fn release(&self, bytes: usize) {
        match &self.call {
            _ if bytes == 0 => {}
            Some(call) => call.release(bytes),
            None => self.memory.release(bytes),
        }
    }

    /// Counts `bytes` from now on.
    fn hold(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes > self.held {
            self.take(bytes - self.held)?;
        } else {
            self.release(self.held - bytes);
        }
        self.held = bytes;
        Ok(())
    }

    /// Counts `data`, after which the body goes on.
    fn count(&mut self, data: &[u8]) -> Result<(), ApiError> {
        let Some(framing) = &mut self.framing else { return self.hold(self.held + data.len()) };
        let (unfinished, finished) = framing.advance(data);
        if let Some(length) = finished {
            self.longest = self.longest.max(length);
            // Each message has its own timeout.
            self.timeout = None;
        }
        self.hold(self.longest.max(unfinished))?;
        // The reader of a single message has its own deadline.
        if unfinished > 0 && self.timeout.is_none() {
            self.timeout = Some(Box::pin(tokio::time::sleep(MESSAGE_TIMEOUT)));
        }
        Ok(())
    }

    /// Stops counting gRPC messages, because the body has ended and its call waits for no more. A
    /// single message counts until it is dropped.
    fn end(&mut self) {
        if self.framing.is_some() {
            self.timeout = None;
            let held = std::mem::take(&mut self.held);
            self.release(held);
        }
    }
}

impl<B> Drop for BudgetedBody<B> {
    fn drop(&mut self) {
        self.release(self.held);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for BudgetedBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let Some(timeout) = &mut this.timeout else { return Poll::Pending };
            ready!(timeout.as_mut().poll(context));
            let expected = format!("expected the rest of the message within {} s", MESSAGE_TIMEOUT.as_secs());
            let error = ApiError::invalid("(message)", "MESSAGE_TIMEOUT", expected);
            return Poll::Ready(Some(Err(this.to_body_error(error))));
        };
        let Some(frame) = frame else {
            this.end();
            return Poll::Ready(None);
        };
        let has_ended = this.framing.is_some() && this.body.is_end_stream();
        let frame = frame.map_err(Into::into).and_then(|frame| {
            if has_ended {
                this.end();
            } else if let Some(data) = frame.data_ref() {
                this.count(data).map_err(|error| this.to_body_error(error))?;
            }
            Ok(frame)
        });
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The position of a body in gRPC's framing: a byte of flags, four bytes of length, then the
/// message (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
#[derive(Default)]
struct Framing {
    prefix: [u8; 5],
    /// Bytes of the prefix received so far.
    prefix_len: usize,
    /// Bytes of the message received so far.
    message_len: usize,
}

impl Framing {
    fn length(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        u32::from_be_bytes(length) as usize
    }

    /// Advances by `data`. Returns the bytes of the unfinished message, and those of the longest
    /// message that `data` finished, if it finished any. Both include the prefix.
    fn advance(&mut self, mut data: &[u8]) -> (usize, Option<usize>) {
        let mut finished: Option<usize> = None;
        while !data.is_empty() {
            let here = data.len().min(self.prefix.len() - self.prefix_len);
            let (prefix, rest) = data.split_at(here);
            self.prefix[self.prefix_len..self.prefix_len + here].copy_from_slice(prefix);
            self.prefix_len += here;
            data = rest;
            if self.prefix_len < self.prefix.len() {
                break;
            }
            let here = data.len().min(self.length() - self.message_len);
            self.message_len += here;
            data = &data[here..];
            if self.message_len == self.length() {
                finished = finished.max(Some(self.prefix_len + self.message_len));
                *self = Self::default();
            }
        }
        (self.prefix_len + self.message_len, finished)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;

    use proptest::prelude::*;

    use super::*;

    /// When a body ends.
    enum End {
        /// It stays open without data.
        Never,
        /// With its last frame.
        WithLast,
        /// After its last frame.
        Later,
    }

    /// A body of these frames.
    struct Frames(Vec<Bytes>, End);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Self(frames, end) = self.get_mut();
            match end {
                _ if !frames.is_empty() => Poll::Ready(Some(Ok(Frame::data(frames.remove(0))))),
                End::Never => Poll::Pending,
                End::WithLast | End::Later => Poll::Ready(None),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty() && matches!(self.1, End::WithLast)
        }
    }

    fn open(frames: Vec<Bytes>) -> Request<Frames> {
        Request::new(Frames(frames, End::Never))
    }

    fn message(length: usize) -> Vec<u8> {
        let prefix = u32::try_from(length).unwrap().to_be_bytes();
        [&[0], prefix.as_slice(), &vec![7; length]].concat()
    }

    async fn next(body: &mut BudgetedBody<Frames>) -> Result<Bytes, Status> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await.unwrap();
        frame.map(|frame| frame.into_data().unwrap()).map_err(|error| *error.downcast::<Status>().unwrap())
    }

    #[tokio::test]
    async fn rejects_a_call_over_budget_and_frees_its_bytes() {
        let budget = MessageBudget::new(MemoryBudget::with_limit(1000));
        let beginning = |length: usize| vec![Bytes::from(message(5000)[..length].to_vec())];
        let mut first = budget.grpc_messages(open(beginning(600))).into_body();
        next(&mut first).await.unwrap();
        let mut second = budget.grpc_messages(open(beginning(600))).into_body();
        assert_eq!(next(&mut second).await.unwrap_err().code(), tonic::Code::Unavailable);
        let whole = Frames(vec![Bytes::from(message(5000))], End::WithLast);
        let mut whole = budget.grpc_messages(Request::new(whole)).into_body();
        next(&mut whole).await.expect("a whole request is not unfinished");
        drop(first);
        next(&mut budget.grpc_messages(open(beginning(600))).into_body()).await.unwrap();
        assert_eq!(budget.memory.held(), 0);
    }

    #[tokio::test]
    async fn counts_a_single_message_until_it_is_dropped() {
        let budget = MessageBudget::new(MemoryBudget::with_limit(1000));
        let mut body = budget
            .single_message(open(vec![Bytes::from(vec![0; 400]), Bytes::from(vec![0; 500])]))
            .into_body();
        next(&mut body).await.unwrap();
        next(&mut body).await.unwrap();
        assert_eq!(budget.memory.held(), 900);
        drop(body);
        assert_eq!(budget.memory.held(), 0);
    }

    #[tokio::test]
    async fn counts_the_longest_message_until_the_body_ends() {
        let budget = MessageBudget::new(MemoryBudget::with_limit(1000));
        let rest = message(300);
        let frames = || {
            let small = [message(0), message(5)[..3].to_vec()].concat();
            vec![Bytes::from(message(600)), Bytes::from(small)]
        };
        for end in [End::Never, End::Later] {
            let ends = matches!(end, End::Later);
            let mut body = budget.grpc_messages(Request::new(Frames(frames(), end))).into_body();
            next(&mut body).await.unwrap();
            assert_eq!(budget.memory.held(), 605);
            next(&mut body).await.unwrap();
            assert_eq!(budget.memory.held(), 605, "small messages hide no large one");
            let mut other = budget.grpc_messages(open(vec![Bytes::from(rest.clone())])).into_body();
            next(&mut other).await.unwrap();
            let mut third = budget.grpc_messages(open(vec![Bytes::from(rest.clone())])).into_body();
            assert_eq!(next(&mut third).await.unwrap_err().code(), tonic::Code::Unavailable);
            drop(other);
            if ends {
                assert!(poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.is_none());
                assert_eq!(budget.memory.held(), 0);
            }
            drop(body);
            assert_eq!(budget.memory.held(), 0);
        }
    }

    /// Each frame ends in the middle of a message; frames are ten seconds apart.
    #[tokio::test(start_paused = true)]
    async fn gives_each_message_of_a_stream_its_own_timeout() {
        let budget = MessageBudget::new(MemoryBudget::with_limit(1000));
        let bytes = message(5).repeat(20);
        let frames = bytes.chunks(11).map(Bytes::copy_from_slice).collect();
        let mut body = budget.grpc_messages(open(frames)).into_body();
        for _ in 0..bytes.len() / 11 {
            next(&mut body).await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ends_a_stalled_message_but_not_an_idle_stream() {
        let budget = MessageBudget::new(MemoryBudget::with_limit(1000));
        let mut stuck = budget.grpc_messages(open(vec![Bytes::from(message(9)[..7].to_vec())])).into_body();
        next(&mut stuck).await.unwrap();
        let begin = tokio::time::Instant::now();
        assert_eq!(next(&mut stuck).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        assert!(begin.elapsed() >= MESSAGE_TIMEOUT);
        let mut idle = budget.grpc_messages(open(vec![Bytes::from(message(9))])).into_body();
        next(&mut idle).await.unwrap();
        assert!(tokio::time::timeout(10 * MESSAGE_TIMEOUT, next(&mut idle)).await.is_err());
    }

    proptest! {
        #[test]
        fn finds_message_ends_in_any_split(
            lengths in prop::collection::vec(0_usize..40, 1..6),
            cuts in prop::collection::vec(1_usize..9, 1..80),
        ) {
            let ends: Vec<_> = lengths.iter().scan(0, |end, length| { *end += 5 + length; Some(*end) }).collect();
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
            let (mut framing, mut at) = (Framing::default(), 0);
            for cut in cuts.into_iter().cycle() {
                let until = (at + cut).min(bytes.len());
                let (unfinished, finished) = framing.advance(&bytes[at..until]);
                let ended = ends.iter().zip(&lengths).filter(|(end, _)| at < **end && **end <= until);
                prop_assert_eq!(finished, ended.map(|(_, length)| 5 + length).max());
                at = until;
                let begun = ends.iter().rev().find(|end| **end <= at).copied().unwrap_or(0);
                prop_assert_eq!(unfinished, at - begun);
                if at == bytes.len() { break }
            }
        }
    }
}
