//! How much of unfinished messages a service holds, over all its calls.
//!
//! Each message has its limit, but there can be any number of callers who have sent most of one. What all of them together
//! may make the service hold is bounded here; who would go beyond it is turned away, as in any overload. A message that came
//! in one piece, as nearly all do, is never unfinished, and costs nothing here.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use crate::ApiError;

type BoxError = Box<dyn Error + Send + Sync>;

/// Of all calls of a listener together, where a single message may not be half as large.
const LEAST: usize = 64 << 20;
/// Largest messages that all calls together may have sent most of.
const MESSAGES: usize = 4;
/// From a message's first bytes to its last.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Those who are over the bound should come back after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What all calls together may hold. Clones share it.
#[derive(Debug, Clone)]
pub struct MessageBudget {
    limit: usize,
    held: Arc<AtomicUsize>,
}

impl MessageBudget {
    /// For messages of so many bytes at most.
    #[must_use]
    pub fn for_messages_of(max_bytes: usize) -> Self {
        Self::of(LEAST.max(max_bytes.saturating_mul(MESSAGES)))
    }

    fn of(limit: usize) -> Self {
        Self { limit, held: Arc::default() }
    }

    /// A body that is one message, however it comes.
    #[must_use]
    pub fn single_message<B>(&self, body: B) -> BudgetedBody<B> {
        self.budgeted(body, None)
    }

    /// A body of gRPC's messages, each with its length before it.
    #[must_use]
    pub fn grpc_messages<B>(&self, body: B) -> BudgetedBody<B> {
        self.budgeted(body, Some(Framing::default()))
    }

    fn budgeted<B>(&self, body: B, framing: Option<Framing>) -> BudgetedBody<B> {
        BudgetedBody { body, budget: self.clone(), framing, held: 0, late: None }
    }

    fn take(&self, bytes: usize) -> Result<(), ApiError> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held <= self.limit {
            return Ok(());
        }
        self.give_back(bytes);
        Err(ApiError::Overloaded {
            message: format!("more than {} bytes of unfinished messages are being sent", self.limit),
            retry_after: RETRY_AFTER,
        })
    }

    fn give_back(&self, bytes: usize) {
        // Calls whose messages came whole share nothing with each other.
        if bytes > 0 {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// A body whose unfinished message counts; it fails where that is one too many, or does not get finished: with an
/// [`ApiError`], or a [`Status`] where it is of gRPC's messages.
pub struct BudgetedBody<B> {
    body: B,
    budget: MessageBudget,
    framing: Option<Framing>,
    held: usize,
    /// Set while a message is unfinished.
    late: Option<Pin<Box<Sleep>>>,
}

impl<B> BudgetedBody<B> {
    /// An error as tonic finds it, or as it is.
    fn said(&self, error: ApiError) -> BoxError {
        if self.framing.is_some() { Status::from(error).into() } else { error.into() }
    }

    fn came(&mut self, data: &[u8]) -> Result<(), ApiError> {
        let unfinished = match &mut self.framing {
            Some(framing) => {
                let (unfinished, finished_one) = framing.after(data);
                // Each message has its time, whatever came before it.
                self.late = self.late.take().filter(|_| !finished_one);
                unfinished
            }
            None => self.held + data.len(),
        };
        if unfinished > self.held {
            self.budget.take(unfinished - self.held)?;
        } else {
            self.budget.give_back(self.held - unfinished);
        }
        self.held = unfinished;
        // Whoever awaits a body that is one message has a deadline for it.
        if self.framing.is_some() && unfinished > 0 && self.late.is_none() {
            self.late = Some(Box::pin(tokio::time::sleep(MESSAGE_TIMEOUT)));
        }
        Ok(())
    }
}

impl<B> Drop for BudgetedBody<B> {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
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
            let Some(late) = &mut this.late else { return Poll::Pending };
            ready!(late.as_mut().poll(context));
            let expected = format!("expected the rest of the message within {} s", MESSAGE_TIMEOUT.as_secs());
            let error = ApiError::invalid("(message)", "MESSAGE_TIMEOUT", expected);
            return Poll::Ready(Some(Err(this.said(error))));
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into).and_then(|frame| {
            if let Some(data) = frame.data_ref() {
                this.came(data).map_err(|error| this.said(error))?;
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

/// Where a body is in gRPC's messages: a byte of flags, four of length, so many bytes
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
#[derive(Default)]
struct Framing {
    prefix: [u8; 5],
    /// Bytes of the prefix that have come.
    prefixed: usize,
    /// Bytes of the message that have come.
    came: usize,
}

impl Framing {
    fn length(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        u32::from_be_bytes(length) as usize
    }

    /// Bytes of a message whose end has not come, now that these have; and whether the end of one was among them.
    fn after(&mut self, mut data: &[u8]) -> (usize, bool) {
        let mut finished_one = false;
        while !data.is_empty() {
            let here = data.len().min(self.prefix.len() - self.prefixed);
            let (prefix, rest) = data.split_at(here);
            self.prefix[self.prefixed..self.prefixed + here].copy_from_slice(prefix);
            self.prefixed += here;
            data = rest;
            if self.prefixed < self.prefix.len() {
                break;
            }
            let here = data.len().min(self.length() - self.came);
            self.came += here;
            data = &data[here..];
            if self.came == self.length() {
                *self = Self::default();
                finished_one = true;
            }
        }
        (self.prefixed + self.came, finished_one)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;

    use proptest::prelude::*;

    use super::*;

    /// A body of these frames, after which nothing more comes.
    struct Frames(Vec<Bytes>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0.is_empty() {
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(Frame::data(self.0.remove(0)))))
        }
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
    async fn who_holds_too_much_is_turned_away_and_what_he_held_is_free_again() {
        let budget = MessageBudget::of(1000);
        let part = |length: usize| vec![Bytes::from(message(5000)[..length].to_vec())];
        let mut first = budget.grpc_messages(Frames(part(600)));
        next(&mut first).await.unwrap();
        let mut second = budget.grpc_messages(Frames(part(600)));
        assert_eq!(next(&mut second).await.unwrap_err().code(), tonic::Code::Unavailable);
        let mut small = budget.grpc_messages(Frames(vec![Bytes::from(message(5000))]));
        next(&mut small).await.expect("a whole message is not unfinished");
        drop(first);
        next(&mut budget.grpc_messages(Frames(part(600)))).await.unwrap();
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_that_is_one_message_counts_until_it_is_dropped() {
        let budget = MessageBudget::of(1000);
        let mut body =
            budget.single_message(Frames(vec![Bytes::from(vec![0; 400]), Bytes::from(vec![0; 500])]));
        next(&mut body).await.unwrap();
        next(&mut body).await.unwrap();
        assert_eq!(budget.held.load(Ordering::Relaxed), 900);
        drop(body);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }

    /// Frames that each end in the middle of the next message, ten seconds apart.
    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_frames_end_nowhere_in_particular_has_its_time_for_each_message() {
        let budget = MessageBudget::of(1000);
        let bytes = message(5).repeat(20);
        let frames = bytes.chunks(11).map(Bytes::copy_from_slice).collect();
        let mut body = budget.grpc_messages(Frames(frames));
        for _ in 0..bytes.len() / 11 {
            next(&mut body).await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_not_finished_is_given_up_and_an_idle_stream_is_not() {
        let budget = MessageBudget::of(1000);
        let mut stuck = budget.grpc_messages(Frames(vec![Bytes::from(message(9)[..7].to_vec())]));
        next(&mut stuck).await.unwrap();
        let begin = tokio::time::Instant::now();
        assert_eq!(next(&mut stuck).await.unwrap_err().code(), tonic::Code::InvalidArgument);
        assert!(begin.elapsed() >= MESSAGE_TIMEOUT);
        let mut idle = budget.grpc_messages(Frames(vec![Bytes::from(message(9))]));
        next(&mut idle).await.unwrap();
        assert!(tokio::time::timeout(10 * MESSAGE_TIMEOUT, next(&mut idle)).await.is_err());
    }

    proptest! {
        #[test]
        fn however_messages_are_cut_nothing_is_unfinished_at_their_ends(
            lengths in prop::collection::vec(0_usize..40, 1..6),
            cuts in prop::collection::vec(1_usize..9, 1..80),
        ) {
            let ends: Vec<_> = lengths.iter().scan(0, |end, length| { *end += 5 + length; Some(*end) }).collect();
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
            let (mut framing, mut at) = (Framing::default(), 0);
            for cut in cuts.into_iter().cycle() {
                let until = (at + cut).min(bytes.len());
                let (unfinished, finished_one) = framing.after(&bytes[at..until]);
                prop_assert_eq!(finished_one, ends.iter().any(|end| at < *end && *end <= until));
                at = until;
                let begun = ends.iter().rev().find(|end| **end <= at).copied().unwrap_or(0);
                prop_assert_eq!(unfinished, at - begun);
                if at == bytes.len() { break }
            }
        }
    }
}
