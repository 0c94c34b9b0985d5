//! The call that a movie belongs to: whose it is, and how long its client waits.

use service_kit::{Caller, Deadline};

/// What every transport knows about a call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose share and quota the call uses.
    pub caller: Caller,
    /// When the response stops being useful.
    pub deadline: Deadline,
    /// Whether it is one item of a stream, which waits where another call is rejected.
    pub is_item: bool,
}

impl Call {
    /// Returns a call that is no item of a stream.
    pub(crate) fn new(caller: Caller, deadline: Deadline) -> Self {
        Self { caller, deadline, is_item: false }
    }

    /// Returns the call of a gRPC request.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        Self::new(Caller::of(request), Deadline::of(request))
    }

    /// The call of one item of this stream, which was charged when it was read.
    pub(crate) fn item(&self) -> Self {
        Self { caller: self.caller.charged(), deadline: self.deadline, is_item: true }
    }
}
