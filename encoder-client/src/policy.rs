//! How often and for how long a client tries: the rules of online and of bulk calls.
//!
//! Backoff and budget come from tower. Its `Retry` and `Hedge` layers repeat a call on the same
//! service, and `Balance` does not exclude a replica that has just failed; a call here must move to
//! another replica.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::encoder::v1::Priority;
use service_kit::Deadline;
use tokio::time::Instant;
use tower::retry::backoff::{Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff as _};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::util::rng::HasherRng;

use crate::failure::Failure;
use crate::status::Class;

/// The most attempts of one online call, hedges included.
const MAX_ATTEMPTS: usize = 5;
/// Backoff of an online call whose replicas have all failed.
const FIRST_BACKOFF: Duration = Duration::from_millis(40);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause that a replica gets when it asks for one in an online call.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Texts for which a hedge starts one `hedge_after` later, because a larger call takes longer.
const TEXTS_PER_HEDGE: u32 = 8;

/// The rules of a client.
#[derive(Debug, Clone, Copy)]
pub enum Policy {
    /// For calls that a person waits for.
    Online(OnlinePolicy),
    /// For jobs that run for hours.
    Bulk(BulkPolicy),
}

/// Online calls have a deadline, hedge, and share a budget for retries and hedges.
#[derive(Debug, Clone, Copy)]
pub struct OnlinePolicy {
    /// The deadline of a call whose caller sets none. No call has a longer one.
    pub timeout: Duration,
    /// A call without a reply after this time also goes to another replica; `None` disables
    /// hedging.
    pub hedge_after: Option<Duration>,
}

/// Bulk calls retry until the client has had no success for `patience`. Time without calls does not
/// count.
#[derive(Debug, Clone, Copy)]
pub struct BulkPolicy {
    /// Backoff after the first failure of a call; each further failure doubles it.
    pub first_backoff: Duration,
    /// The longest backoff.
    pub longest_backoff: Duration,
    /// A call without a reply after this time has failed.
    pub call_timeout: Duration,
    /// The longest wait until an encoder answers for the first time.
    pub connect_patience: Duration,
    /// The longest time without any success, from the beginning of the call.
    pub patience: Duration,
}

impl Default for BulkPolicy {
    fn default() -> Self {
        Self {
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(10),
            call_timeout: Duration::from_secs(120),
            connect_patience: Duration::from_secs(15),
            patience: Duration::from_secs(300),
        }
    }
}

/// A policy and the state that all calls of a client share.
pub(crate) enum Rules {
    Online { policy: OnlinePolicy, budget: TpsBudget },
    Bulk { policy: BulkPolicy, last_success: Mutex<Instant> },
}

impl From<Policy> for Rules {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Online(policy) => {
                // A fifth of the calls, plus ten per second for times with few calls.
                Self::Online { policy, budget: TpsBudget::new(Duration::from_secs(10), 10, 0.2) }
            }
            Policy::Bulk(policy) => Self::Bulk { policy, last_success: Mutex::new(Instant::now()) },
        }
    }
}

impl Rules {
    pub(crate) fn priority(&self) -> Priority {
        match self {
            Self::Online { .. } => Priority::Online,
            Self::Bulk { .. } => Priority::Bulk,
        }
    }

    /// The deadline of a call whose caller waits until `deadline`.
    pub(crate) fn deadline(&self, deadline: Deadline) -> Deadline {
        match self {
            Self::Online { policy, .. } => {
                Deadline::after(deadline.remaining().map_or(policy.timeout, |left| left.min(policy.timeout)))
            }
            Self::Bulk { .. } => deadline,
        }
    }

    /// Returns the output of one attempt, or a failure if the attempt takes too long.
    pub(crate) async fn bound<T>(
        &self,
        attempt: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self {
            // The call's deadline bounds all attempts together.
            Self::Online { .. } => attempt.await,
            Self::Bulk { policy: BulkPolicy { call_timeout: limit, .. }, .. } => {
                let outcome = tokio::time::timeout(*limit, attempt).await;
                outcome.unwrap_or_else(|_| Err(Failure::timed_out(*limit)))
            }
        }
    }

    pub(crate) fn hedge_after(&self, texts: usize) -> Option<Duration> {
        match self {
            Self::Online { policy, .. } => {
                policy.hedge_after.map(|after| after * (1 + texts as u32 / TEXTS_PER_HEDGE))
            }
            Self::Bulk { .. } => None,
        }
    }

    pub(crate) fn backoff(&self) -> ExponentialBackoff {
        match self {
            Self::Online { .. } => backoff(FIRST_BACKOFF, LONGEST_BACKOFF),
            Self::Bulk { policy, .. } => backoff(policy.first_backoff, policy.longest_backoff),
        }
    }

    /// Whether this failure ends the call, without another attempt.
    pub(crate) fn is_final(&self, failure: &Failure) -> bool {
        match self {
            Self::Online { .. } => matches!(failure.class(), Some(Class::OutOfTime | Class::Rejected)),
            // A job must not continue on an encoder that is defective or was replaced.
            Self::Bulk { .. } => matches!(failure.class(), None | Some(Class::Rejected | Class::Defect)),
        }
    }

    /// The pause to grant to the replica of a failed attempt; `None` if the failure counts against
    /// the replica.
    ///
    /// Each bulk failure pauses the replica for all calls of the job. Counting failures towards an
    /// ejection would be too strict: with many calls in flight, three fail in one busy moment.
    pub(crate) fn pause(&self, failure: &Failure, backoff: &mut ExponentialBackoff) -> Option<Duration> {
        let asked = match failure.class() {
            Some(Class::Busy(pause)) => Some(pause),
            _ => None,
        };
        match self {
            Self::Online { .. } => asked.map(|pause| pause.min(LONGEST_PAUSE)),
            Self::Bulk { policy, .. } => {
                Some(next(backoff).max(asked.unwrap_or_default().min(policy.patience)))
            }
        }
    }

    /// Whether the number of attempts made allows one more.
    pub(crate) fn allows_attempt(&self, made: usize) -> bool {
        matches!(self, Self::Bulk { .. }) || made < MAX_ATTEMPTS
    }

    /// Takes one attempt from the budget.
    pub(crate) fn withdraw(&self) -> bool {
        match self {
            Self::Online { budget, .. } => budget.withdraw(),
            Self::Bulk { .. } => true,
        }
    }

    /// A call begins.
    pub(crate) fn begin(&self) {
        if let Self::Online { budget, .. } = self {
            budget.deposit();
        }
    }

    /// A call succeeded.
    pub(crate) fn succeeded(&self) {
        if let Self::Bulk { last_success, .. } = self {
            *last_success.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

/// The next backoff of a call.
pub(crate) fn next(backoff: &mut ExponentialBackoff) -> Duration {
    backoff.next_backoff().deadline().saturating_duration_since(Instant::now())
}

/// Doubles from `first` to `longest`; half of each backoff is random, so that callers do not retry
/// at the same moment.
pub(crate) fn backoff(first: Duration, longest: Duration) -> ExponentialBackoff {
    let longest = longest.max(Duration::from_millis(1));
    ExponentialBackoffMaker::new(first.min(longest) / 2, longest / 2, 1.0, HasherRng::default())
        .expect("the first backoff is at most the longest, which is not zero")
        .make_backoff()
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn bulk() -> Rules {
        Policy::Bulk(BulkPolicy::default()).into()
    }

    fn online() -> Rules {
        Policy::Online(OnlinePolicy { timeout: Duration::from_secs(10), hedge_after: None }).into()
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_doubles_up_to_the_longest_and_is_at_least_half() {
        let mut backoff = bulk().backoff();
        for attempt in 0..200_i32 {
            let seconds = next(&mut backoff).as_secs_f64();
            let full = (0.1 * 2_f64.powi(attempt)).min(10.0);
            // Timers have a resolution of a millisecond.
            assert!((full / 2.0 - 0.001..=full + 0.001).contains(&seconds), "attempt {attempt}: {seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bulk_call_grants_the_pause_that_a_server_asks_for() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(30)));
        let failure = Failure::from(Status::with_error_details(Code::Unavailable, "busy", details));
        let rules = bulk();
        assert_eq!(rules.pause(&failure, &mut rules.backoff()), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_bulk_call_retries_only_transient_failures() {
        let is_final = |status: Status| bulk().is_final(&status.into());
        assert!(!is_final(Status::unavailable("")));
        assert!(!is_final(Status::deadline_exceeded("")));
        assert!(is_final(Status::invalid_argument("")));
        assert!(is_final(Status::internal("a defect")));
        assert!(is_final(Status::resource_exhausted("quota")));
        assert!(bulk().is_final(&Failure::Malformed(String::new())));
    }

    #[test]
    fn an_online_call_retries_failures_that_another_replica_may_not_have() {
        let is_final = |status: Status| online().is_final(&status.into());
        assert!(!is_final(Status::unavailable("")));
        assert!(!is_final(Status::internal("a defect")));
        assert!(is_final(Status::deadline_exceeded("")));
        assert!(is_final(Status::invalid_argument("")));
        assert!(!online().is_final(&Failure::Malformed(String::new())));
    }
}
