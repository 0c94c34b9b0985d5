//! Until when a caller waits.

use std::time::Duration;

use tokio::time::Instant;

use crate::ApiError;

/// The instant at which the client stops waiting, in the extensions of every gRPC
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NONE: Self = Self(None);

    /// Returns the deadline `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// Returns the deadline of a request.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or(Self::NONE)
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns the time left, or `None` without a deadline.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Runs `work` until the deadline.
    ///
    /// # Errors
    /// Returns [`ApiError::DeadlineExceeded`] if the deadline passes first.
    pub async fn bound<T>(self, work: impl Future<Output = T>) -> Result<T, ApiError> {
        match self.0 {
            None => Ok(work.await),
            // The runtime's timer has a resolution of a millisecond, in which a short call would be done.
            Some(_) if self.has_passed() => Err(ApiError::DeadlineExceeded),
            Some(deadline) => {
                tokio::time::timeout_at(deadline, work).await.map_err(|_| ApiError::DeadlineExceeded)
            }
        }
    }
}
