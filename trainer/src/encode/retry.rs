//! When a failed call is worth another try, and when to make it.

use std::error::Error as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// How long to try.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Wait after the first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// The longest wait.
    pub longest_delay: Duration,
    /// An answer that takes longer counts as a failure.
    pub call_timeout: Duration,
    /// How long an encoder may take to answer for the first time.
    pub connect_patience: Duration,
    /// How long no call at all may succeed.
    pub patience: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(10),
            call_timeout: Duration::from_secs(120),
            connect_patience: Duration::from_secs(15),
            patience: Duration::from_secs(300),
        }
    }
}

/// Whether the same call may succeed later.
pub(crate) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Aborted | Code::DeadlineExceeded => true,
        Code::ResourceExhausted => status.get_details_retry_info().is_some(),
        // Broken connections come as these codes, and only those have a source: a server's own word has none.
        Code::Unknown | Code::Internal | Code::Cancelled => status.source().is_some(),
        _ => false,
    }
}

/// The wait before try number `tries + 1`: exponential, at most the longest, half of it by chance so that many
/// callers do not come back at once; never earlier than the server asks for in its `RetryInfo`.
pub(crate) fn delay(policy: &RetryPolicy, status: &Status, tries: u32) -> Duration {
    let doubled = policy.first_delay.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    let backoff = doubled.min(policy.longest_delay).mul_f64(0.5 + 0.5 * chance());
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    backoff.max(asked.min(policy.patience))
}

/// Anything from 0 to 1, from the keys of the standard library's hash maps, as tower does it: chance enough to spread callers,
/// and the one source of it that the simulation can repeat.
fn chance() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

/// The last time that any call succeeded, shared by all calls of a job.
#[derive(Debug)]
pub(crate) struct LastSuccess(Mutex<Instant>);

impl LastSuccess {
    pub(crate) fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(crate) fn renew(&self) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed()
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_keep_to_their_half() {
        let policy = RetryPolicy::default();
        let status = Status::unavailable("busy");
        for (tries, full) in [(1, 0.1), (2, 0.2), (4, 0.8), (8, 10.0), (200, 10.0)] {
            let seconds = delay(&policy, &status, tries).as_secs_f64();
            assert!((full / 2.0..=full).contains(&seconds), "try {tries}: {seconds}");
        }
    }

    #[test]
    fn a_server_that_names_a_wait_is_obeyed() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(30)));
        let status = Status::with_error_details(Code::Unavailable, "busy", details);
        assert_eq!(delay(&RetryPolicy::default(), &status, 1), Duration::from_secs(30));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(is_transient(&Status::unavailable("")));
        assert!(!is_transient(&Status::invalid_argument("")));
        assert!(!is_transient(&Status::internal("a defect")));
        assert!(!is_transient(&Status::resource_exhausted("quota")));
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        assert!(is_transient(&Status::with_error_details(Code::ResourceExhausted, "quota", details)));
    }
}
