//! Which replica to leave alone for a while: one that failed several times in a row.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that put a replica aside.
const FAILURES: u32 = 3;
/// For how long the first time; each further failure doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// And for how long at most.
const LONGEST: Duration = Duration::from_secs(30);

/// How one replica has been lately.
#[derive(Debug, Default)]
pub(super) struct Outlier {
    failures: u32,
    until: Option<Instant>,
    busy_until: Option<Instant>,
}

impl Outlier {
    /// It answered: whatever was held against it is forgotten.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It did not answer, or broke off.
    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            let doubled = FIRST.saturating_mul(1 << (self.failures - FAILURES).min(10));
            self.until = Some(Instant::now() + doubled.min(LONGEST));
        }
    }

    /// It answered that it has no room before `retry_after` has passed.
    pub(super) fn is_full_for(&mut self, retry_after: Duration) {
        self.failures = 0;
        self.until = None;
        self.busy_until = Some(Instant::now() + retry_after.min(LONGEST));
    }

    /// Whether it is put aside.
    pub(super) fn is_ejected(&self) -> bool {
        self.until.is_some_and(|until| until > Instant::now())
    }

    /// Whether its last answers were failures, put aside for them or not.
    pub(super) fn is_failing(&self) -> bool {
        self.failures >= FAILURES
    }

    /// How long it asked to be left alone from now on.
    pub(super) fn busy_for(&self) -> Duration {
        self.busy_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_failures_in_a_row_put_a_replica_aside_and_more_for_longer() {
        let mut outlier = Outlier::default();
        outlier.failed();
        outlier.failed();
        assert!(!outlier.is_ejected());
        outlier.failed();
        assert!(outlier.is_ejected());
        tokio::time::advance(FIRST).await;
        assert!(!outlier.is_ejected() && outlier.is_failing());
        outlier.failed();
        tokio::time::advance(FIRST).await;
        assert!(outlier.is_ejected());
        for _ in 0..100 {
            outlier.failed();
        }
        tokio::time::advance(LONGEST).await;
        assert!(!outlier.is_ejected());
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_between_failures_clears_them() {
        let mut outlier = Outlier::default();
        for _ in 0..10 {
            outlier.failed();
            outlier.failed();
            outlier.succeeded();
        }
        assert!(!outlier.is_ejected() && !outlier.is_failing());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_replica_is_busy_and_not_ejected() {
        let mut outlier = Outlier::default();
        outlier.is_full_for(Duration::from_millis(80));
        assert_eq!(outlier.busy_for(), Duration::from_millis(80));
        tokio::time::advance(Duration::from_millis(80)).await;
        assert_eq!(outlier.busy_for(), Duration::ZERO);
        assert!(!outlier.is_ejected());
    }
}
