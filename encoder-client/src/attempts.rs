//! One call, with as many attempts as its policy allows.
//!
//! A further attempt starts after a failure that another replica may not have, or beside an attempt
//! that has been silent for too long (a hedge). See [`policy`](crate::policy) for why tower's
//! layers do not fit.

use std::sync::{Arc, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use genre_model::EncoderIdentity;
use service_kit::{Deadline, Metrics};
use tokio::time::Instant;
use tower::retry::backoff::ExponentialBackoff;

use crate::error::EncoderError;
use crate::failure::Failure;
use crate::metrics::CallMetrics;
use crate::policy::{self, Policy, Rules};
use crate::replica::{Health, Replica};
use crate::replicas::Replicas;

/// The attempt at which a bulk call logs a warning. Earlier failures are routine, such as a full
/// queue.
const NOTEWORTHY_ATTEMPT: usize = 6;

/// The call to which attempts belong.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// The encoder to ask; `None` for any.
    pub(crate) expected: Option<&'a EncoderIdentity>,
    /// Texts that count as pending on a replica during an attempt.
    pub(crate) texts: usize,
    pub(crate) deadline: Deadline,
}

/// The state that all calls of a client share.
pub(crate) struct Attempts {
    pub(crate) replicas: Replicas,
    pub(crate) rules: Rules,
    pub(crate) metrics: CallMetrics,
}

impl Attempts {
    pub(crate) fn new(replicas: Replicas, policy: Policy, metrics: &Metrics) -> Self {
        Self { replicas, rules: policy.into(), metrics: CallMetrics::new(metrics) }
    }

    /// Makes `attempt` on one replica after another until one succeeds or the policy forbids
    /// another attempt.
    pub(crate) async fn make<T, F>(
        &self,
        call: Call<'_>,
        attempt: impl Fn(Arc<Replica>) -> F,
    ) -> Result<T, EncoderError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let (rules, metrics, began) = (&self.rules, &self.metrics, Instant::now());
        rules.begin();
        let start = |replica: Arc<Replica>| {
            let (pending, outcome) = (replica.take(call.texts), attempt(replica.clone()));
            async move {
                let outcome = rules.bound(outcome).await;
                drop(pending);
                (replica, outcome)
            }
        };
        let hedge_after = rules.hedge_after(call.texts);
        let mut backoff = rules.backoff();
        let mut tried = vec![self.replicas.pick(call.expected, &[])?];
        let mut running = FuturesUnordered::from_iter([start(tried[0].clone())]);
        // The replicas behind `running`, oldest first.
        let mut silent = tried.clone();
        loop {
            let hedge = async {
                match hedge_after {
                    Some(after) => tokio::time::sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            let (replica, outcome) = tokio::select! {
                Some(finished) = running.next() => finished,
                () = hedge => {
                    if rules.allows_attempt(tried.len())
                        && let Some(other) = self.spare(call, &tried, Health::Serving)
                    {
                        metrics.hedges.inc();
                        tried.push(other.clone());
                        silent.push(other.clone());
                        running.push(start(other));
                    }
                    continue;
                }
            };
            let failure = match outcome {
                Ok(value) => {
                    metrics.succeeded();
                    rules.succeeded();
                    replica.succeeded(call.expected);
                    let slower = silent.iter().take_while(|other| !Arc::ptr_eq(other, &replica));
                    slower.for_each(|slow| slow.failed("silent while another replica answered"));
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            metrics.failed(&failure);
            if rules.is_final(&failure) {
                return Err(failure.into());
            }
            self.record(&replica, &failure, &mut backoff);
            silent.retain(|other| !Arc::ptr_eq(other, &replica));
            if !running.is_empty() {
                continue;
            }
            if !rules.allows_attempt(tried.len()) {
                return Err(failure.into());
            }
            // A replica that is about to stop still accepts calls for a while.
            let next = match self.spare(call, &tried, Health::NotServing) {
                Some(other) => other,
                // A retry cannot help: the replica runs another encoder.
                None if matches!(failure, Failure::OtherEncoder { .. }) => return Err(failure.into()),
                None => {
                    self.wait(call, began, failure, tried.len(), &mut backoff).await?;
                    self.replicas.pick(call.expected, &[])?
                }
            };
            metrics.retries.inc();
            tried.push(next.clone());
            silent.push(next.clone());
            running.push(start(next));
        }
    }

    fn record(&self, replica: &Replica, failure: &Failure, backoff: &mut ExponentialBackoff) {
        match (self.rules.pause(failure, backoff), failure) {
            (Some(pause), _) => replica.is_busy_for(pause),
            (None, Failure::OtherEncoder { found, .. }) => replica.has_changed(found),
            (None, Failure::Malformed(reason)) => replica.failed(reason),
            (None, Failure::Status(status)) => replica.failed(status.message()),
        }
    }

    /// Waits until a replica may be asked again, after all have been tried. Returns an error if the
    /// call, which began at `began`, must fail instead.
    async fn wait(
        &self,
        call: Call<'_>,
        began: Instant,
        failure: Failure,
        attempts: usize,
        backoff: &mut ExponentialBackoff,
    ) -> Result<(), EncoderError> {
        let busy = self.replicas.pick(call.expected, &[])?.busy_for();
        match &self.rules {
            Rules::Online { .. } => {
                let is_too_late = call.deadline.remaining().is_some_and(|left| left <= busy);
                if is_too_late || !self.rules.withdraw() {
                    return Err(failure.into());
                }
                tokio::time::sleep(busy).await;
                tokio::time::sleep(policy::next(backoff)).await;
            }
            Rules::Bulk { policy, last_success } => {
                let error = EncoderError::from(failure);
                let last_success = *last_success.lock().unwrap_or_else(PoisonError::into_inner);
                // The time in which a job makes no calls is no failure of the encoders.
                let waited = last_success.max(began).elapsed();
                if waited + busy > policy.patience {
                    return Err(error.after(waited));
                }
                if attempts == NOTEWORTHY_ATTEMPT {
                    tracing::warn!("{error}; trying again");
                }
                tokio::time::sleep(busy).await;
            }
        }
        Ok(())
    }

    /// Returns an untried replica that is available and whose health is at least `health`, if the
    /// budget allows one more attempt.
    fn spare(&self, call: Call<'_>, tried: &[Arc<Replica>], health: Health) -> Option<Arc<Replica>> {
        let other = self.replicas.pick(call.expected, tried).ok()?;
        let is_available = other.health() <= health && !other.is_ejected() && other.busy_for().is_zero();
        (is_available && self.rules.withdraw()).then_some(other)
    }
}
