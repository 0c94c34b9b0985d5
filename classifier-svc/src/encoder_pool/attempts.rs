//! One call, made of as many attempts as it takes.
//!
//! The caller's deadline bounds them all together. A further attempt is made when one failed in a way that another
//! replica may mend, or when one has been silent for long (a hedge); both draw on one budget, so that a fleet in
//! trouble is not given a multiple of its load. A replica that says when it has room again is left alone until then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use genre_model::EncoderIdentity;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use proto::encoder::v1::{EncodeRequest, Priority};
use service_kit::{ApiError, Deadline, Metrics};
use tower::retry::backoff::{Backoff as _, ExponentialBackoffMaker, MakeBackoff as _};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::util::rng::HasherRng;

use super::answer::{Failure, Vectors, failure_of, vectors_of};
use super::replica::Replica;
use super::{EncoderPool, answer};

/// Attempts of one call at most.
const MAX_ATTEMPTS: usize = 5;
/// Pauses before an attempt on a replica that has just failed.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Texts for which one `hedge_after` is waited; a call of more texts is given more time.
const TEXTS_PER_HEDGE: u32 = 8;

/// Retries and hedges: a fifth of the calls, and ten a second where calls are few.
pub(super) fn budget() -> TpsBudget {
    TpsBudget::new(Duration::from_secs(10), 10, 0.2)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// What an attempt may come to.
const OUTCOMES: [&str; 5] = ["ok", "refused", "failed", "full", "wrong_encoder"];

/// What the calls to encoders come to.
pub(super) struct CallMetrics {
    attempts: Family<Outcome, Counter>,
    retries: Counter,
    hedges: Counter,
    replicas: Gauge,
    replicas_away: Gauge,
}

impl CallMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let attempts: Family<Outcome, Counter> =
            metrics.register("encoder_attempts", "Attempts to encode, by outcome", Family::default());
        // From zero, so that the first one is an increase.
        for outcome in OUTCOMES {
            attempts.get_or_create(&Outcome { outcome }).inc_by(0);
        }
        Self {
            attempts,
            retries: metrics.register("encoder_retries", "Attempts after a failed one", Counter::default()),
            hedges: metrics.register("encoder_hedges", "Attempts beside a silent one", Counter::default()),
            replicas: metrics.register("encoder_replicas", "Encoder replicas known", Gauge::default()),
            replicas_away: metrics.register(
                "encoder_away_replicas",
                "Encoder replicas that do not answer",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn replicas(&self, all: usize, away: usize) {
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.replicas.set(gauge(all));
        self.replicas_away.set(gauge(away));
    }

    fn attempt(&self, outcome: &'static str) {
        self.attempts.get_or_create(&Outcome { outcome }).inc();
    }
}

impl EncoderPool {
    /// Vectors of `texts`, of length `dimension`, by an encoder of `expected`'s fingerprint.
    pub async fn encode(
        &self,
        texts: Vec<String>,
        dimension: usize,
        expected: &EncoderIdentity,
        deadline: Deadline,
    ) -> Result<Vectors, ApiError> {
        let longest = self.inner.config.timeout;
        let deadline = Deadline::after(deadline.remaining().unwrap_or(longest).min(longest));
        let request = EncodeRequest { texts, priority: Priority::Online.into() };
        deadline.bound(self.attempts(request, dimension, expected, deadline)).await?
    }

    async fn attempts(
        &self,
        request: EncodeRequest,
        dimension: usize,
        expected: &EncoderIdentity,
        deadline: Deadline,
    ) -> Result<Vectors, ApiError> {
        let count = request.texts.len();
        self.inner.budget.deposit();
        let start = |replica: Arc<Replica>| {
            let (request, remaining) = (request.clone(), deadline.remaining().unwrap_or_default());
            let pending = replica.take(count);
            async move {
                let outcome = match replica.encode(request, remaining).await {
                    Ok(answer) => vectors_of(answer, count, dimension, expected),
                    Err(status) => Err(failure_of(&status)),
                };
                drop(pending);
                (replica, outcome)
            }
        };
        let hedge_after =
            self.inner.config.hedge_after.map(|after| after * (1 + count as u32 / TEXTS_PER_HEDGE));
        let mut backoff = backoff();
        let mut tried = vec![self.pick(expected, &[])?];
        let mut running = FuturesUnordered::from_iter([start(tried[0].clone())]);
        // The replicas behind `running`, oldest first.
        let mut silent_ones = tried.clone();
        loop {
            let silent = async {
                match hedge_after {
                    Some(after) => tokio::time::sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            let (replica, outcome) = tokio::select! {
                Some(finished) = running.next() => finished,
                () = silent => {
                    if let Some(other) = self.spare(expected, &tried) {
                        self.inner.metrics.hedges.inc();
                        tried.push(other.clone());
                        silent_ones.push(other.clone());
                        running.push(start(other));
                    }
                    continue;
                }
            };
            let failure = match outcome {
                Ok(vectors) => {
                    self.inner.metrics.attempt("ok");
                    replica.succeeded();
                    let earlier = silent_ones.iter().take_while(|other| !Arc::ptr_eq(other, &replica));
                    earlier.for_each(|slow| slow.failed("silent while another replica answered"));
                    return Ok(vectors);
                }
                Err(failure) => failure,
            };
            self.judge(&replica, &failure);
            silent_ones.retain(|other| !Arc::ptr_eq(other, &replica));
            if let Failure::Final(error) = failure {
                return Err(error);
            }
            if !running.is_empty() {
                continue;
            }
            let error = failure.into_error();
            if tried.len() >= MAX_ATTEMPTS {
                return Err(error);
            }
            let next = match self.spare(expected, &tried) {
                Some(other) => other,
                // Everyone has been tried. A wrong encoder does not become the right one by being asked again.
                None if matches!(error, ApiError::WrongEncoder { .. }) => return Err(error),
                None => {
                    let again = self.pick(expected, &[])?;
                    let busy = again.busy_for();
                    if deadline.remaining().is_some_and(|left| left <= busy) || !self.inner.budget.withdraw()
                    {
                        return Err(error);
                    }
                    tokio::time::sleep(busy).await;
                    backoff.next_backoff().await;
                    again
                }
            };
            self.inner.metrics.retries.inc();
            tried.push(next.clone());
            silent_ones.push(next.clone());
            running.push(start(next));
        }
    }

    fn judge(&self, replica: &Replica, failure: &Failure) {
        self.inner.metrics.attempt(match failure {
            Failure::Final(_) => "refused",
            Failure::Replica(_) => "failed",
            Failure::Full(..) => "full",
            Failure::Wrong(..) => "wrong_encoder",
        });
        match failure {
            Failure::Final(_) => {}
            Failure::Replica(error) => replica.failed(&error.to_string()),
            Failure::Full(_, retry_after) => replica.is_full_for(*retry_after),
            Failure::Wrong(_, fingerprint) => replica.has_changed(fingerprint),
        }
    }

    /// A replica that has not been tried and is well, if the budget allows for one more attempt.
    fn spare(&self, expected: &EncoderIdentity, tried: &[Arc<Replica>]) -> Option<Arc<Replica>> {
        let other = self.pick(expected, tried).ok()?;
        (!other.is_ejected() && other.busy_for().is_zero() && self.inner.budget.withdraw()).then_some(other)
    }

    /// The replica to ask next, not one of `tried`: one that is well before one that is busy before one that is put
    /// aside, and among equals the one with the fewest texts.
    fn pick(&self, expected: &EncoderIdentity, tried: &[Arc<Replica>]) -> Result<Arc<Replica>, ApiError> {
        let replicas = self.inner.replicas.load();
        let mut other = None;
        // Equals take turns.
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed) % replicas.len().max(1);
        let (after, before) = replicas.split_at(turn);
        let candidates = before.iter().chain(after).filter(|replica| {
            if tried.iter().any(|tried| Arc::ptr_eq(tried, replica)) {
                return false;
            }
            match replica.encoder() {
                Some(encoder) if encoder.fingerprint != expected.fingerprint.as_str() => {
                    other = Some(encoder);
                    false
                }
                _ => true,
            }
        });
        let best = candidates
            .min_by_key(|replica| (replica.is_ejected(), replica.busy_for(), replica.pending()))
            .cloned();
        best.ok_or_else(|| match other {
            Some(encoder) => answer::wrong_replica(expected, &encoder),
            None => self.unreachable(),
        })
    }
}

fn backoff() -> tower::retry::backoff::ExponentialBackoff {
    ExponentialBackoffMaker::new(FIRST_PAUSE, LONGEST_PAUSE, 0.99, HasherRng::default())
        .expect("the first pause is shorter than the longest, and the jitter finite")
        .make_backoff()
}
