//! Admission: a request is admitted only if its texts can be encoded in time.
//!
//! Each text has an estimated cost, and each class a limit on the total cost that is admitted. The
//! limit is a time, not a number of texts, because the costs of texts differ by more than a factor
//! of ten. A request that cannot be served before its deadline is rejected at once, while its
//! client still has time to try another replica. Unary requests are admitted whole or not at all.
//! Texts of a stream wait for permits, in order of arrival.
//!
//! Adaptive limiters such as `tower`'s `ConcurrencyLimit` or Netflix's concurrency limits count
//! requests; none weighs a request by its cost, knows its deadline, or shares the workers between
//! two classes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service_kit::{ApiError, CallerId, Deadline, Metrics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::scheduler::cost::CostModel;
use crate::scheduler::entry::{Class, ClassLabel, PerClass, Share, shutting_down};
use crate::scheduler::limits::{BULK_SHARE, QueueLimits};

/// A safety factor for expected times. Estimates are right only on average, and a machine can slow
/// down within a second.
const MARGIN: f64 = 1.25;
/// The shortest time after which a rejected client is told to retry.
const MIN_RETRY: Duration = Duration::from_millis(10);

/// Admits texts in front of the queue.
pub struct Admission {
    costs: CostModel,
    sessions: u32,
    limits: PerClass<ClassLimit>,
}

/// The limit of one class.
struct ClassLimit {
    max_wait: Duration,
    /// One permit for each microsecond of session time within the limit.
    permits: Arc<Semaphore>,
    capacity: u32,
    /// Admitted work in units, not in time: if the machine slows down, everything admitted takes
    /// longer.
    admitted: AtomicU64,
    texts: Gauge,
    rejected: Counter,
}

impl ClassLimit {
    fn new(max_wait: Duration, sessions: u32, texts: Gauge, rejected: Counter) -> Self {
        let micros = max_wait.as_micros().saturating_mul(u128::from(sessions));
        // 2^29 µs is nine minutes of one session, longer than any client waits.
        let capacity = u32::try_from(micros).unwrap_or(u32::MAX).clamp(1, 1 << 29);
        Self {
            max_wait,
            permits: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            admitted: AtomicU64::new(0),
            texts,
            rejected,
        }
    }

    fn admitted(&self) -> f64 {
        self.admitted.load(Ordering::Relaxed) as f64
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
}

/// An admitted text's slot under the limit of its class. The caller that waits for the vector holds
/// it; dropping it frees the slot.
pub struct Permit {
    admission: Arc<Admission>,
    class: Class,
    share: Share,
    _permits: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// Whose work was admitted, and how much.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let limit = self.admission.limits.of(self.class);
        limit.admitted.fetch_sub(self.share.units, Ordering::Relaxed);
        limit.texts.dec();
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
        let limits = PerClass::new(|class| {
            let label = ClassLabel { class };
            let (texts, rejected) = (texts.get_or_create_owned(&label), rejected.get_or_create_owned(&label));
            ClassLimit::new(*limits.of(class), sessions, texts, rejected)
        });
        Self { costs, sessions, limits }
    }

    /// The cost model that admission uses.
    #[must_use]
    pub fn costs(&self) -> &CostModel {
        &self.costs
    }

    /// Estimates when the last of `units` new units would be done, counted from now.
    fn expected(&self, class: Class, units: u64) -> Duration {
        let (online, bulk) = (self.limits.online.admitted(), self.limits.bulk.admitted());
        let share = f64::from(BULK_SHARE) - 1.0;
        let units = match class {
            Class::Online => {
                let own = online + units as f64;
                // Meanwhile bulk gets its share of the runs, and a run in progress is not
                // interrupted.
                let running = self.costs.max_units() as f64 * f64::from(self.sessions);
                own + bulk.min(own / share + running)
            }
            Class::Bulk => {
                let own = bulk + units as f64;
                own + online.min(own * share)
            }
        };
        Duration::from_secs_f64(self.costs.micros(units) * MARGIN / f64::from(self.sessions) / 1e6)
    }

    /// The time that a text admitted now is expected to wait.
    #[must_use]
    pub fn wait(&self, class: Class) -> Duration {
        self.expected(class, 0)
    }

    /// The number of permits that a text or batch takes. If it costs more than the limit, it takes
    /// all permits, so it is admitted only if no other text is.
    fn permits(&self, limit: &ClassLimit, units: u64) -> u32 {
        (self.costs.micros(units as f64) as u32).clamp(1, limit.capacity)
    }

    /// The time that the texts of a class would take with `wanted` more permits. Those permits are
    /// not free.
    fn over_limit(&self, limit: &ClassLimit, wanted: u32) -> Duration {
        let held = u64::from(limit.capacity).saturating_sub(limit.permits.available_permits() as u64);
        let micros = (held + u64::from(wanted)) / u64::from(self.sessions);
        Duration::from_micros(micros).max(limit.max_wait)
    }

    fn check_deadline(&self, class: Class, units: u64, deadline: Deadline) -> Result<(), ApiError> {
        // An idle encoder admits any request: the estimate may be wrong, and no other request has
        // to wait.
        let idle = self.limits.online.admitted() + self.limits.bulk.admitted() < 1.0;
        let expected = self.expected(class, units);
        match deadline.remaining() {
            Some(left) if !idle && expected > left => Err(self.limits.of(class).reject(expected, left)),
            _ => Ok(()),
        }
    }

    fn permit(self: &Arc<Self>, class: Class, share: Share, permits: Option<OwnedSemaphorePermit>) -> Permit {
        let limit = self.limits.of(class);
        limit.admitted.fetch_add(share.units, Ordering::Relaxed);
        limit.texts.inc();
        Permit { admission: self.clone(), class, share, _permits: permits }
    }

    /// Admits all texts or none, without waiting. Returns a permit for each text.
    pub fn admit(
        self: &Arc<Self>,
        texts: &[&str],
        class: Class,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<Vec<Permit>, ApiError> {
        let units: Vec<_> = texts.iter().map(|text| self.costs.units_of(text)).collect();
        let total = units.iter().sum();
        self.check_deadline(class, total, deadline)?;
        let limit = self.limits.of(class);
        let wanted = self.permits(limit, total);
        let permits = limit.permits.clone().try_acquire_many_owned(wanted);
        let mut permits =
            permits.map_err(|_| limit.reject(self.over_limit(limit, wanted), limit.max_wait))?;
        Ok(units
            .into_iter()
            .map(|units| {
                let part = (self.permits(limit, units) as usize).min(permits.num_permits());
                self.permit(class, Share { caller, units }, permits.split(part))
            })
            .collect())
    }

    /// Admits one text, and waits for its permit for as long as the deadline allows.
    pub async fn admit_waiting(
        self: &Arc<Self>,
        text: &str,
        class: Class,
        caller: CallerId,
        deadline: Deadline,
    ) -> Result<Permit, ApiError> {
        let units = self.costs.units_of(text);
        let limit = self.limits.of(class);
        let permits = limit.permits.clone().acquire_many_owned(self.permits(limit, units));
        let permits = deadline.bound(permits).await?.map_err(|_| shutting_down())?;
        self.check_deadline(class, units, deadline)?;
        Ok(self.permit(class, Share { caller, units }, Some(permits)))
    }
}
