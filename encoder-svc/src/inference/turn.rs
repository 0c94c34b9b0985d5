//! What is done with an entry before and after its run, whoever runs it.

use std::time::Duration;

use service_kit::ApiError;

use crate::metrics::StageMetrics;
use crate::scheduler::queue::{Class, Entry};

impl Entry {
    /// How long it has waited for its turn; `None` where its caller has left, so that nobody needs it run.
    pub(crate) fn waited(&self, class: Class, stages: &StageMetrics) -> Option<Duration> {
        if self.is_abandoned() {
            stages.caller_left();
            return None;
        }
        let waited = self.since.elapsed();
        stages.waited(class, waited);
        Some(waited)
    }

    /// Whether its run can still be of use to its caller.
    pub(crate) fn in_time(&self, stages: &StageMetrics) -> Result<(), ApiError> {
        if self.deadline.has_passed() {
            stages.too_late();
            return Err(ApiError::DeadlineExceeded);
        }
        Ok(())
    }

    /// What the caller hears of a run that failed; the reason is for the log.
    pub(crate) fn failed(&self, reason: &str) -> ApiError {
        tracing::error!(reason, bytes = self.text.len(), "encoding a text failed");
        ApiError::Internal { message: "encoding the text failed".to_owned() }
    }
}
