//! Admission: a request is admitted only if its texts can be encoded in time.
//!
//! Each text has an estimated cost, and each class a limit on the total cost that is admitted. The
//! limit is a time, not a number of texts, because the costs of texts differ by more than a factor
//! of ten. A request that cannot be served before its deadline is rejected at once, while its
//! client still has time to try another replica. Unary requests are admitted whole or not at all.
//! Texts of a stream wait for permits; callers take turns.
//!
//! Estimates are right only on average, and a machine can slow down within a second. So a request is
//! expected to take longer by a margin that admission learns (`scheduler/margin.rs`).
//!
//! A caller never gets a whole limit (see [`FairLimit`]), and the time that a request is expected to
//! take depends on the caller's own backlog more than on that of others, because the queue is fair.
//!
//! Adaptive limiters such as `tower`'s `ConcurrencyLimit` or Netflix's concurrency limits count
//! requests; none weighs a request by its cost, knows its deadline, or shares the workers between
//! two classes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service_kit::{ApiError, CallerId, Deadline, FairLimit, FairPermit, Metrics};
use tokio::time::Instant;

use crate::scheduler::cost::CostModel;
use crate::scheduler::entry::{Class, ClassLabel, PerClass, Share};
use crate::scheduler::limits::{BULK_SHARE, QueueLimits};
use crate::scheduler::margin::Margin;

/// The shortest time after which a rejected client is told to retry.
const MIN_RETRY: Duration = Duration::from_millis(10);
/// The weight of one observation in the slowdown of a caller: when it rises, and when it falls.
const SLOWER: f64 = 0.5;
const FASTER: f64 = 1.0 / 32.0;
/// The largest slowdown that is remembered, so that a stall of the machine is soon forgotten.
const MAX_SLOWDOWN: f64 = 64.0;

/// Admits texts in front of the queue.
pub struct Admission {
    costs: CostModel,
    sessions: u32,
    limits: PerClass<ClassLimit>,
}

/// The limit of one class.
struct ClassLimit {
    max_wait: Duration,
    /// Admitted work in units, not in time: if the machine slows down, everything admitted takes
    /// longer.
    admitted: Arc<FairLimit>,
    /// How many times longer than expected the work of a caller takes, if it does, because other
    /// callers come after it and are served before it. Callers without work are forgotten.
    slowdowns: Mutex<HashMap<CallerId, f64>>,
    /// How many times longer requests take than their callers' slowdowns explain.
    margin: Margin,
    margin_ratio: Gauge<f64, AtomicU64>,
    texts: Gauge,
    rejected: Counter,
}

impl ClassLimit {
    fn admitted(&self) -> f64 {
        self.admitted.total() as f64
    }

    /// Counts a rejection, and returns the error that says when a retry is likely to be admitted.
    fn reject(&self, expected: Duration, allowed: Duration) -> ApiError {
        self.rejected.inc();
        ApiError::Overloaded {
            message: format!(
                "the queue is full: expected to take {} ms, allowed {} ms",
                expected.as_millis(),
                allowed.as_millis()
            ),
            retry_after: expected.saturating_sub(allowed).max(MIN_RETRY),
        }
    }

    fn slowdown(&self, caller: CallerId) -> f64 {
        self.slowdowns.lock().get(&caller).copied().unwrap_or(1.0)
    }

    /// Learns that work of `caller` took `times` as long as on average.
    fn slower(&self, caller: CallerId, times: f64) {
        let mut slowdowns = self.slowdowns.lock();
        let slowdown = slowdowns.entry(caller).or_insert(1.0);
        let weight = if times > *slowdown { SLOWER } else { FASTER };
        *slowdown = (*slowdown + (times - *slowdown) * weight).clamp(1.0, MAX_SLOWDOWN);
    }
}

/// The units of a request.
#[derive(Clone, Copy)]
struct Request {
    /// Those that are not admitted yet.
    new: u64,
    /// Those that are admitted.
    admitted: u64,
    /// Those of its longest text.
    longest: u64,
}

/// The time that a request was expected to take when it was admitted.
struct Promise {
    begin: Instant,
    /// The time that it takes on average.
    average: Duration,
    /// The time that it takes with the slowdown of its caller, or the shortest expected time that
    /// could ever be rejected: a smaller error does not matter.
    expected: Duration,
    /// The part of its allowed time that this is with the margin.
    part: f64,
}

/// An admitted text's slot under the limit of its class. The caller that waits for the vector holds
/// it; dropping it frees the slot.
pub struct Permit {
    admission: Arc<Admission>,
    class: Class,
    share: Share,
    /// `None` if the text is not the last of its request.
    promise: Option<Promise>,
    is_complete: bool,
    /// `None` once it is released.
    admitted: Option<FairPermit>,
}

impl Permit {
    /// Whose work was admitted, and how much.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    /// Frees the slot of a text that was encoded.
    pub fn complete(mut self) {
        self.is_complete = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let limit = self.admission.limits.of(self.class);
        limit.texts.dec();
        self.admitted = None;
        let is_last = limit.admitted.held_by(self.share.caller) == 0;
        if is_last {
            limit.slowdowns.lock().remove(&self.share.caller);
        }
        let Some(Promise { begin, average, expected, part }) = self.promise else { return };
        let took = begin.elapsed().as_secs_f64();
        let times = |of: Duration| took / of.as_secs_f64().max(1e-6);
        if self.is_complete {
            limit.margin.took(times(expected), part);
        } else {
            limit.margin.took_at_least(times(expected), part);
        }
        limit.margin_ratio.set(limit.margin.get());
        // As with the margin, a call that ends early says nothing.
        if !is_last && (self.is_complete || times(average) > limit.slowdown(self.share.caller)) {
            limit.slower(self.share.caller, times(average));
        }
    }
}

impl Admission {
    /// Creates the admission to a queue that `sessions` workers serve.
    #[must_use]
    pub fn new(costs: CostModel, sessions: usize, limits: QueueLimits, metrics: &Metrics) -> Self {
        let sessions = u32::try_from(sessions).unwrap_or(u32::MAX).max(1);
        let texts: Family<ClassLabel, Gauge> =
            metrics.register("encoder_admitted_texts", "Texts that wait or run", Family::default());
        let rejected: Family<ClassLabel, Counter> = metrics.register(
            "encoder_rejected_requests",
            "Requests rejected because they could not be served in time",
            Family::default(),
        );
        let margins: Family<ClassLabel, Gauge<f64, AtomicU64>> = metrics.register(
            "encoder_margin_ratio",
            "Factor between the expected time of a request and the time that admission allows for it",
            Family::default(),
        );
        let limits = PerClass::new(|class| {
            let label = ClassLabel { class };
            let (margin, margin_ratio) = (Margin::default(), margins.get_or_create_owned(&label));
            margin_ratio.set(margin.get());
            ClassLimit {
                max_wait: *limits.of(class),
                admitted: FairLimit::new(0),
                slowdowns: Mutex::default(),
                margin,
                margin_ratio,
                texts: texts.get_or_create_owned(&label),
                rejected: rejected.get_or_create_owned(&label),
            }
        });
        Self { costs, sessions, limits }
    }

    /// The cost model that admission uses.
    #[must_use]
    pub fn costs(&self) -> &CostModel {
        &self.costs
    }

    /// The time in which all sessions together do `units` units of work.
    fn time(&self, units: f64) -> Duration {
        Duration::from_secs_f64(self.costs.micros(units) / f64::from(self.sessions) / 1e6)
    }

    /// The most units that run at a time, in runs that are not interrupted.
    fn most_in_progress(&self) -> u64 {
        self.costs.max_units() * u64::from(self.sessions)
    }

    /// Estimates when `own` units of work of a class would be done, counted from now, if the class
    /// does them before all others of its own.
    fn expected(&self, class: Class, own: f64) -> Duration {
        let share = f64::from(BULK_SHARE) - 1.0;
        let units = match class {
            Class::Online => {
                // Meanwhile bulk gets its share of the runs, and a run in progress is not
                // interrupted.
                own + self.limits.bulk.admitted().min(own / share + self.most_in_progress() as f64)
            }
            Class::Bulk => own + self.limits.online.admitted().min(own * share),
        };
        self.time(units)
    }

    /// The time that a text admitted now is expected to wait, if its caller has all the backlog.
    #[must_use]
    pub fn wait(&self, class: Class) -> Duration {
        self.expected(class, self.limits.of(class).admitted()).mul_f64(self.limits.of(class).margin.get())
    }

    /// Returns what is expected of a request beside `admitted` units that were admitted for it, or
    /// rejects it if it could not be done before the deadline.
    fn check_deadline(
        &self,
        class: Class,
        caller: CallerId,
        Request { new, admitted, longest }: Request,
        deadline: Deadline,
    ) -> Result<Promise, ApiError> {
        let limit = self.limits.of(class);
        // All workers share the backlog, but the last text runs on one.
        let last = longest as f64 * (1.0 - 1.0 / f64::from(self.sessions));
        let last = Duration::from_secs_f64(self.costs.micros(last) / 1e6);
        let ahead = limit.admitted.ahead_of(caller, new, self.most_in_progress());
        let average = self.expected(class, ahead as f64) + last;
        let expected = average.mul_f64(limit.slowdown(caller));
        let at_most = expected.mul_f64(limit.margin.get());
        let left = deadline.remaining();
        if let Some(left) = left
            && at_most > left
            && !self.is_idle(admitted)
        {
            return Err(limit.reject(at_most, left));
        }
        let allowed = left.unwrap_or(limit.max_wait);
        let part = at_most.as_secs_f64() / allowed.as_secs_f64().max(1e-6);
        let expected = expected.max(allowed.div_f64(Margin::MOST));
        Ok(Promise { begin: Instant::now(), average, expected, part })
    }

    /// Whether no text is admitted but `own` units. An idle encoder admits any request: the estimate
    /// may be wrong, and no other request has to wait.
    fn is_idle(&self, own: u64) -> bool {
        self.limits.online.admitted.total() + self.limits.bulk.admitted.total() <= own
    }

    /// Returns the limit of a class, with the capacity that its time has at the current speed.
    fn limit(&self, class: Class) -> &ClassLimit {
        let limit = self.limits.of(class);
        let micros = limit.max_wait.as_secs_f64() * 1e6 * f64::from(self.sessions);
        limit.admitted.set_capacity((micros / self.costs.micros(1.0)) as u64);
        limit
    }

    fn permit(
        self: &Arc<Self>,
        class: Class,
        share: Share,
        promise: Option<Promise>,
        admitted: FairPermit,
    ) -> Permit {
        self.limits.of(class).texts.inc();
        Permit {
            admission: self.clone(),
            class,
            share,
            promise,
            is_complete: false,
            admitted: Some(admitted),
        }
    }

    /// Admits all texts of `caller` or none, without waiting. Returns a permit for each text.
    pub fn admit(
        self: &Arc<Self>,
        texts: &[&str],
        class: Class,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<Vec<Permit>, ApiError> {
        let units: Vec<_> = texts.iter().map(|text| self.costs.units_of(text)).collect();
        let Some(last) = units.len().checked_sub(1) else { return Ok(Vec::new()) };
        let total = units.iter().sum();
        let longest = units.iter().copied().max().unwrap_or(0);
        let request = Request { new: total, admitted: 0, longest };
        let mut promise = Some(self.check_deadline(class, caller, request, deadline)?);
        let limit = self.limit(class);
        let mut admitted = limit
            .admitted
            .try_acquire(caller, total)
            .map_err(|needed| limit.reject(self.time(needed as f64).max(limit.max_wait), limit.max_wait))?;
        let permit = |(index, units)| {
            let promise = if index == last { promise.take() } else { None };
            self.permit(class, Share { caller, units }, promise, admitted.split(units))
        };
        Ok(units.into_iter().enumerate().map(permit).collect())
    }

    /// Admits one text of `caller`, and waits for its permit for as long as the deadline allows.
    pub async fn admit_waiting(
        self: &Arc<Self>,
        text: &str,
        class: Class,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<Permit, ApiError> {
        let units = self.costs.units_of(text);
        let admitted = deadline.bound(self.limit(class).admitted.acquire(caller, units)).await?;
        let request = Request { new: 0, admitted: units, longest: units };
        let promise = self.check_deadline(class, caller, request, deadline)?;
        Ok(self.permit(class, Share { caller, units }, Some(promise), admitted))
    }
}
