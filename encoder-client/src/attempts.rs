//! One call, made of as many attempts as its policy allows.
//!
//! A further attempt starts when one failed in a way that another replica may not, or when one has
//! been silent for too long (a hedge). See [`policy`](crate::policy) for why tower's layers do not
//! fit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use genre_model::EncoderIdentity;
use service_kit::Deadline;
use tower::retry::backoff::ExponentialBackoff;

use crate::EncoderClient;
use crate::error::EncoderError;
use crate::failure::Failure;
use crate::policy::{self, Rules};
use crate::replica::Replica;

/// A bulk call logs a warning at this attempt: a queue that is full for a moment is routine.
const NOTEWORTHY_ATTEMPT: usize = 6;

/// The call that attempts belong to.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// The encoder to ask; `None` for any.
    pub(crate) expected: Option<&'a EncoderIdentity>,
    /// Texts that count as pending on a replica during an attempt.
    pub(crate) texts: usize,
    pub(crate) deadline: Deadline,
}

impl EncoderClient {
    /// Makes `attempt` on one replica after another until one succeeds or the policy forbids
    /// another attempt.
    pub(crate) async fn attempts<T, F>(
        &self,
        call: Call<'_>,
        attempt: impl Fn(Arc<Replica>) -> F,
    ) -> Result<T, EncoderError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let (rules, metrics) = (&self.inner.rules, &self.inner.metrics);
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
        let mut tried = vec![self.pick(call, &[])?];
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
                    if let Some(other) = self.spare(call, &tried) {
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
                    replica.succeeded();
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
            let next = match self.spare(call, &tried) {
                Some(other) => other,
                // Repeating a call does not turn another encoder into the expected one.
                None if matches!(failure, Failure::OtherEncoder { .. }) => return Err(failure.into()),
                None => {
                    self.wait(call, failure, tried.len(), &mut backoff).await?;
                    self.pick(call, &[])?
                }
            };
            metrics.retries.inc();
            tried.push(next.clone());
            silent.push(next.clone());
            running.push(start(next));
        }
    }

    fn record(&self, replica: &Replica, failure: &Failure, backoff: &mut ExponentialBackoff) {
        match (self.inner.rules.pause(failure, backoff), failure) {
            (Some(pause), _) => replica.is_busy_for(pause),
            (None, Failure::OtherEncoder { found, .. }) => replica.has_changed(found),
            (None, Failure::Malformed(reason)) => replica.failed(reason),
            (None, Failure::Status(status)) => replica.failed(status.message()),
        }
    }

    /// Waits until a replica may be asked again, all of which have been tried; an error if the call
    /// must fail instead.
    async fn wait(
        &self,
        call: Call<'_>,
        failure: Failure,
        attempts: usize,
        backoff: &mut ExponentialBackoff,
    ) -> Result<(), EncoderError> {
        let busy = self.pick(call, &[])?.busy_for();
        match &self.inner.rules {
            Rules::Online { .. } => {
                let is_too_late = call.deadline.remaining().is_some_and(|left| left <= busy);
                if is_too_late || !self.inner.rules.withdraw() {
                    return Err(failure.into());
                }
                tokio::time::sleep(busy).await;
                tokio::time::sleep(policy::next(backoff)).await;
            }
            Rules::Bulk { policy, last_success } => {
                let error = EncoderError::from(failure);
                let waited = last_success.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed();
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

    /// An untried replica that is closed and not busy, if the budget allows one more attempt.
    fn spare(&self, call: Call<'_>, tried: &[Arc<Replica>]) -> Option<Arc<Replica>> {
        let other = self.pick(call, tried).ok()?;
        (!other.is_ejected() && other.busy_for().is_zero() && self.inner.rules.withdraw()).then_some(other)
    }

    /// The best replica that is not one of `tried`: available before busy before ejected, then by
    /// fewest pending texts. Equal replicas take turns.
    pub(crate) fn pick(&self, call: Call<'_>, tried: &[Arc<Replica>]) -> Result<Arc<Replica>, EncoderError> {
        let replicas = self.inner.replicas.load();
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed) % replicas.len().max(1);
        let (later, first) = replicas.split_at(turn);
        let mut wrong = None;
        let candidates = first.iter().chain(later).filter(|replica| {
            if tried.iter().any(|tried| Arc::ptr_eq(tried, replica)) {
                return false;
            }
            match call.expected.and_then(|expected| replica.mismatch(expected)) {
                Some(error) => {
                    wrong = Some(error);
                    false
                }
                None => true,
            }
        });
        let best = candidates
            .min_by_key(|replica| (replica.is_ejected(), replica.busy_for(), replica.pending()))
            .cloned();
        best.ok_or_else(|| wrong.unwrap_or_else(|| self.unreachable()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::transport::Endpoint;

    use super::*;
    use crate::{BulkPolicy, Policy};

    const ONE_TEXT: Call<'_> = Call { expected: None, texts: 1, deadline: Deadline::NONE };

    fn client(replicas: usize) -> EncoderClient {
        let channel = || Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let replica = |index: usize| Arc::new(Replica::new(index.to_string(), channel(), None));
        let metrics = service_kit::Metrics::default();
        EncoderClient::of((0..replicas).map(replica).collect(), Policy::Bulk(BulkPolicy::default()), &metrics)
    }

    fn loads(client: &EncoderClient) -> Vec<usize> {
        client.inner.replicas.load().iter().map(|replica| replica.pending()).collect()
    }

    fn begin(client: &EncoderClient) -> crate::replica::Pending {
        client.pick(ONE_TEXT, &[]).unwrap().take(1)
    }

    #[tokio::test]
    async fn spreads_calls_evenly_and_gives_none_to_a_busy_replica() {
        let client = client(3);
        let calls: Vec<_> = (0..9).map(|_| begin(&client)).collect();
        assert_eq!(loads(&client), [3, 3, 3]);
        drop(calls);
        assert_eq!(loads(&client), [0, 0, 0]);
        let busy = client.pick(ONE_TEXT, &[]).unwrap();
        busy.is_busy_for(Duration::from_secs(60));
        let _calls: Vec<_> = (0..10).map(|_| begin(&client)).collect();
        assert_eq!(busy.pending(), 0);
        assert_eq!(loads(&client).iter().sum::<usize>(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn picks_the_first_to_be_free_when_all_are_busy() {
        let client = client(2);
        let replicas = client.inner.replicas.load();
        replicas[0].is_busy_for(Duration::from_secs(60));
        replicas[1].is_busy_for(Duration::from_secs(30));
        let next = client.pick(ONE_TEXT, &[]).unwrap();
        assert!(Arc::ptr_eq(&next, &replicas[1]));
        assert_eq!(next.busy_for(), Duration::from_secs(30));
    }
}
