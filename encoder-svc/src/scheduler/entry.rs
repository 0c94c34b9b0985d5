//! One queued request for a vector, and the reply to it.

use std::fmt;
use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use service_kit::{ApiError, CallerId, Deadline};
use tokio::sync::oneshot;
use tracing::Span;

/// The priority of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A person waits for the reply.
    Online,
    /// The entry belongs to a job.
    Bulk,
}

/// One value for each class.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerClass<T> {
    /// The value of [`Class::Online`].
    pub online: T,
    /// The value of [`Class::Bulk`].
    pub bulk: T,
}

impl<T> PerClass<T> {
    pub(crate) fn new(mut value: impl FnMut(Class) -> T) -> Self {
        Self { online: value(Class::Online), bulk: value(Class::Bulk) }
    }

    pub(crate) fn of(&self, class: Class) -> &T {
        match class {
            Class::Online => &self.online,
            Class::Bulk => &self.bulk,
        }
    }

    pub(crate) fn of_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Online => &mut self.online,
            Class::Bulk => &mut self.bulk,
        }
    }
}

impl EncodeLabelValue for Class {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Online => "online",
            Self::Bulk => "bulk",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

/// The label `class` of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ClassLabel {
    pub(crate) class: Class,
}

/// The vector of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// As many floats as the bundle's dimension.
    pub vector: Vec<f32>,
    /// Tokens that were run, special tokens included.
    pub token_count: usize,
    /// Whether the text was longer than the encoder reads.
    pub truncated: bool,
}

/// Whose work an entry is, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The caller, whose share of the runs the entry uses.
    pub caller: CallerId,
    /// The cost in units of the [cost model](crate::scheduler::cost::CostModel::units_of).
    pub units: u64,
}

/// A queued request for the vector of one text.
pub struct Entry {
    /// The text to encode.
    pub text: String,
    /// Whose work it is, and how much.
    pub share: Share,
    /// When the reply stops being useful.
    pub deadline: Deadline,
    /// Where the reply goes. It is closed once the caller has left.
    pub reply: oneshot::Sender<Result<Reply, ApiError>>,
    /// When the entry was queued.
    pub since: Instant,
    /// The caller's span, the parent of this entry's spans.
    pub span: Span,
}

impl Entry {
    /// Creates an entry that is queued now, and the receiver of its reply.
    #[must_use]
    pub fn new(
        text: String,
        share: Share,
        deadline: Deadline,
    ) -> (Self, oneshot::Receiver<Result<Reply, ApiError>>) {
        let (reply, receiver) = oneshot::channel();
        (Self { text, share, deadline, reply, since: Instant::now(), span: Span::current() }, receiver)
    }

    /// Whether the caller has left.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// Returns the error for entries that cannot run because the encoder shuts down.
pub(crate) fn shutting_down() -> ApiError {
    ApiError::Unavailable { reason: "SHUTTING_DOWN", message: "the encoder is shutting down".to_owned() }
}
