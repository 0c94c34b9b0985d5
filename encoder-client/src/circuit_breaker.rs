//! The circuit breaker of one replica. It opens after several failures in a row, which ejects the
//! replica.
//!
//! The circuit breaker of the failsafe crate rejects calls while it is open. Here an open breaker
//! only makes the replica the last choice, so calls are still tried when every replica fails. This
//! breaker also keeps the pauses that a replica asks for.

use std::time::Duration;

use tokio::time::Instant;

/// Consecutive failures that open the breaker.
const FAILURES: u32 = 3;
/// Duration of the first ejection; each further failure doubles it.
const FIRST_EJECTION: Duration = Duration::from_secs(1);
/// Duration of the longest ejection.
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// The recent outcomes of one replica.
#[derive(Debug, Default)]
pub(crate) struct CircuitBreaker {
    failures: u32,
    ejected_until: Option<Instant>,
    busy_until: Option<Instant>,
}

impl CircuitBreaker {
    /// Closes the breaker and ends any pause.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Closes the breaker. A pause goes on.
    pub(crate) fn close(&mut self) {
        self.failures = 0;
        self.ejected_until = None;
    }

    /// Counts a failure, and opens the breaker after too many in a row.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            let doubled = FIRST_EJECTION.saturating_mul(1 << (self.failures - FAILURES).min(10));
            self.ejected_until = Some(Instant::now() + doubled.min(LONGEST_EJECTION));
        }
    }

    /// Records a pause. The replica answered, so the breaker closes.
    pub(crate) fn is_busy_for(&mut self, pause: Duration) {
        self.close();
        self.busy_until = Some(Instant::now() + pause);
    }

    /// Whether the replica is ejected now.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected_until.is_some_and(|until| until > Instant::now())
    }

    /// Whether the breaker is open: ejected, or allowed one more attempt after an ejection.
    pub(crate) fn is_open(&self) -> bool {
        self.failures >= FAILURES
    }

    /// The time left of the pause.
    pub(crate) fn busy_for(&self) -> Duration {
        self.busy_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ejects_after_three_failures_in_a_row_and_for_longer_after_more() {
        let mut breaker = CircuitBreaker::default();
        breaker.failed();
        breaker.failed();
        assert!(!breaker.is_ejected());
        breaker.failed();
        assert!(breaker.is_ejected());
        tokio::time::advance(FIRST_EJECTION).await;
        assert!(!breaker.is_ejected() && breaker.is_open());
        breaker.failed();
        tokio::time::advance(FIRST_EJECTION).await;
        assert!(breaker.is_ejected());
        for _ in 0..100 {
            breaker.failed();
        }
        tokio::time::advance(LONGEST_EJECTION).await;
        assert!(!breaker.is_ejected());
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_clears_earlier_failures() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..10 {
            breaker.failed();
            breaker.failed();
            breaker.succeeded();
        }
        assert!(!breaker.is_ejected() && !breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_does_not_eject() {
        let mut breaker = CircuitBreaker::default();
        breaker.is_busy_for(Duration::from_millis(80));
        assert_eq!(breaker.busy_for(), Duration::from_millis(80));
        tokio::time::advance(Duration::from_millis(80)).await;
        assert_eq!(breaker.busy_for(), Duration::ZERO);
        assert!(!breaker.is_ejected());
    }
}
