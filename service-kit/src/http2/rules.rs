//! The rules of a connection: how many streams it may have open, how long it may be silent, and how
//! old it may become.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tower::util::rng::{HasherRng, Rng as _};

/// The most open gRPC calls of a connection. Clients with more wait where admission cannot see them, so
/// this is far above what a service can do within a caller's deadline: a classifier has one connection to
/// each encoder. The memory budget is what bounds open calls.
const GRPC_STREAMS: u32 = 2_000;
/// The most open requests of an HTTP connection: browsers need about 6, and a proxy can open more
/// connections.
const HTTP_STREAMS: u32 = 32;
/// The part of its age by which a connection may end earlier or later. Without it, clients that
/// connected at one moment, such as after a rollout, would all connect anew at one moment.
const JITTER: f64 = 0.1;

/// The rules of an HTTP/2 connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionRules {
    /// The most open streams.
    pub(crate) max_streams: u32,
    /// The time between pings.
    pub(crate) keepalive_interval: Duration,
    /// How long the peer has to answer a ping before the connection is closed.
    pub(crate) keepalive_timeout: Duration,
    /// How old the connection may become; `None` for no limit.
    pub(crate) max_age: Option<ConnectionAge>,
}

/// How old a connection may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionAge {
    /// The age at which it accepts no new streams.
    pub(crate) limit: Duration,
    /// How long open streams then have to end; `None` for no limit.
    pub(crate) grace: Option<Duration>,
}

impl ConnectionRules {
    /// The most streams that the rules may allow. The window of a connection holds the windows of
    /// all its streams, and has 31 bits.
    pub(crate) const MAX_STREAMS: usize = 10_000;

    /// Returns the rules of an HTTP listener.
    pub(crate) fn of_http() -> Self {
        Self { max_streams: HTTP_STREAMS, ..Self::default() }
    }
}

impl Default for ConnectionRules {
    fn default() -> Self {
        Self {
            max_streams: GRPC_STREAMS,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_age: None,
        }
    }
}

/// A step towards the end of a connection that is too old.
pub(super) enum Aged {
    /// It accepts no new streams.
    Retires,
    /// Its open streams have had their time.
    Ends,
}

/// Watches the age of a connection.
pub(super) struct AgeTimer {
    timer: Pin<Box<Sleep>>,
    grace: Option<Duration>,
    step: Option<Aged>,
}

impl AgeTimer {
    pub(super) fn new(age: ConnectionAge) -> Self {
        let factor = 1.0 - JITTER + 2.0 * JITTER * HasherRng::default().next_f64();
        let timer = Box::pin(tokio::time::sleep(age.limit.mul_f64(factor)));
        Self { timer, grace: age.grace, step: Some(Aged::Retires) }
    }

    /// Is ready once for each step.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Aged> {
        if self.step.is_none() || self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let Some(step) = self.step.take() else { return Poll::Pending };
        if let (Aged::Retires, Some(grace)) = (&step, self.grace) {
            self.timer.as_mut().reset(Instant::now() + grace);
            self.step = Some(Aged::Ends);
        }
        Poll::Ready(step)
    }
}
