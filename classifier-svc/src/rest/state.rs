//! The state that the REST handlers share.

use std::time::Duration;

use service_kit::MessageBudget;

use crate::classifier::Classifier;

/// The state of the REST routes. Clones share it.
#[derive(Clone)]
pub(super) struct RestState {
    pub(super) classifier: Classifier,
    /// Limit for a whole request, from its headers to its response.
    pub(super) timeout: Duration,
    /// Bytes of request bodies that may be in memory at once.
    pub(super) budget: MessageBudget,
}
