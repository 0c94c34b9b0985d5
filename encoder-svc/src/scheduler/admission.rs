//! Which texts are let in: those that can be answered in time.
//!
//! The queue is bounded in time, not in entries, since a text takes anything from one to thirty milliseconds. Each text
//! has an estimated cost; a class has room for so much of it, and a call whose texts cannot be done before its deadline is
//! turned away at once, while there is still time to ask elsewhere. Unary calls are admitted whole or refused; streams
//! wait for room, in the order in which they came.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service_kit::{ApiError, Deadline, Metrics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::encoder::stopping;
use crate::scheduler::cost::CostModel;
use crate::scheduler::queue::{BULK_SHARE, Class};

/// Estimates are right on average only, and a machine may become slower by a fifth within a second: this much more is assumed.
const MARGIN: f64 = 1.25;
/// Sooner than this nobody should come back.
const SHORTEST_RETRY: Duration = Duration::from_millis(10);

/// The longest that a text of each class may have to wait, when it comes.
#[derive(Debug, Clone, Copy)]
pub struct LongestQueues {
    /// Where somebody is waiting.
    pub online: Duration,
    /// Where a job is running.
    pub bulk: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

/// The gate in front of the queue.
pub struct Admission {
    costs: CostModel,
    sessions: u32,
    online: Lane,
    bulk: Lane,
}

/// One class.
struct Lane {
    longest: Duration,
    /// As many permits as microseconds of one session that there is room for.
    room: Arc<Semaphore>,
    capacity: u32,
    /// Units of work, not the time that they were thought to take when they came: where the machine becomes slower, all that
    /// waits takes longer.
    admitted: AtomicU64,
    texts: Gauge,
    refused: Counter,
}

impl Lane {
    fn new(longest: Duration, sessions: u32, texts: Gauge, refused: Counter) -> Self {
        let micros = longest.as_micros().saturating_mul(u128::from(sessions));
        // Half an hour of one session, which is beyond what anybody waits for; semaphores of 32 bits hold it.
        let capacity = u32::try_from(micros).unwrap_or(u32::MAX).clamp(1, 1 << 29);
        Self {
            longest,
            room: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            admitted: AtomicU64::new(0),
            texts,
            refused,
        }
    }

    fn admitted(&self) -> f64 {
        self.admitted.load(Ordering::Relaxed) as f64
    }

    /// Turns away what would take longer than it may, and says when it would have fitted.
    fn refuse(&self, expected: Duration, allowed: Duration) -> ApiError {
        self.refused.inc();
        ApiError::Overloaded {
            message: format!(
                "the queue is full: expected to take {} ms, allowed {} ms",
                expected.as_millis(),
                allowed.as_millis()
            ),
            retry_after: expected.saturating_sub(allowed).max(SHORTEST_RETRY),
        }
    }
}

/// A text's part of the room, held by whoever waits for its vector; given back when dropped.
pub struct Place {
    admission: Arc<Admission>,
    class: Class,
    units: u64,
    _room: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let lane = self.admission.lane(self.class);
        lane.admitted.fetch_sub(self.units, Ordering::Relaxed);
        lane.texts.dec();
    }
}

impl Admission {
    /// A gate in front of so many sessions.
    #[must_use]
    pub fn new(costs: CostModel, sessions: usize, longest: LongestQueues, metrics: &Metrics) -> Self {
        let sessions = u32::try_from(sessions).unwrap_or(u32::MAX).max(1);
        let texts: Family<ClassLabel, Gauge> =
            metrics.register("encoder_admitted_texts", "Texts that wait or run", Family::default());
        let refused: Family<ClassLabel, Counter> =
            metrics.register("encoder_refusals", "Calls refused for want of time", Family::default());
        let lane = |class, longest| {
            let class = ClassLabel { class };
            let (texts, refused) = (texts.get_or_create_owned(&class), refused.get_or_create_owned(&class));
            Lane::new(longest, sessions, texts, refused)
        };
        Self { costs, sessions, online: lane("online", longest.online), bulk: lane("bulk", longest.bulk) }
    }

    fn lane(&self, class: Class) -> &Lane {
        match class {
            Class::Online => &self.online,
            Class::Bulk => &self.bulk,
        }
    }

    /// What texts are thought to cost.
    #[must_use]
    pub fn costs(&self) -> &CostModel {
        &self.costs
    }

    /// How long the last of new texts of so many units would take to be done, from now on.
    fn expected(&self, class: Class, units: u64) -> Duration {
        let (online, bulk) = (self.online.admitted(), self.bulk.admitted());
        let share = f64::from(BULK_SHARE) - 1.0;
        let units = match class {
            Class::Online => {
                let own = online + units as f64;
                // One text in eight is bulk, and those that run now cannot be put off.
                let running = self.costs.dearest_units() as f64 * f64::from(self.sessions);
                own + bulk.min(own / share + running)
            }
            Class::Bulk => {
                let own = bulk + units as f64;
                own + online.min(own * share)
            }
        };
        Duration::from_secs_f64(self.costs.micros(units) * MARGIN / f64::from(self.sessions) / 1e6)
    }

    /// How long a text that comes now would wait.
    #[must_use]
    pub fn wait(&self, class: Class) -> Duration {
        self.expected(class, 0)
    }

    /// What a text or batch of so many units takes of the room. One that is larger than the whole is let in when nothing else is.
    fn permits(&self, lane: &Lane, units: u64) -> u32 {
        (self.costs.micros(units as f64) as u32).clamp(1, lane.capacity)
    }

    /// How long a class's texts would take with so much more of the room, which there is not.
    fn full(&self, lane: &Lane, wanted: u32) -> Duration {
        let held = u64::from(lane.capacity).saturating_sub(lane.room.available_permits() as u64);
        let micros = (held + u64::from(wanted)) / u64::from(self.sessions);
        Duration::from_micros(micros).max(lane.longest)
    }

    fn in_time(&self, class: Class, units: u64, deadline: Deadline) -> Result<(), ApiError> {
        // An idle encoder tries whatever it is given: the estimate may be wrong, and nobody else is kept waiting.
        let idle = self.online.admitted() + self.bulk.admitted() < 1.0;
        let expected = self.expected(class, units);
        match deadline.remaining() {
            Some(left) if !idle && expected > left => Err(self.lane(class).refuse(expected, left)),
            _ => Ok(()),
        }
    }

    fn place(self: &Arc<Self>, class: Class, units: u64, room: Option<OwnedSemaphorePermit>) -> Place {
        let lane = self.lane(class);
        lane.admitted.fetch_add(units, Ordering::Relaxed);
        lane.texts.inc();
        Place { admission: self.clone(), class, units, _room: room }
    }

    /// Places for all texts, or none of them.
    pub fn admit(
        self: &Arc<Self>,
        texts: &[&str],
        class: Class,
        deadline: Deadline,
    ) -> Result<Vec<Place>, ApiError> {
        let units: Vec<_> = texts.iter().map(|text| self.costs.units_of(text)).collect();
        let total = units.iter().sum();
        self.in_time(class, total, deadline)?;
        let lane = self.lane(class);
        let wanted = self.permits(lane, total);
        let room = lane.room.clone().try_acquire_many_owned(wanted);
        let mut room = room.map_err(|_| lane.refuse(self.full(lane, wanted), lane.longest))?;
        Ok(units
            .into_iter()
            .map(|units| {
                let part = (self.permits(lane, units) as usize).min(room.num_permits());
                self.place(class, units, room.split(part))
            })
            .collect())
    }

    /// A place for one text, waited for as long as the deadline allows.
    pub async fn admit_waiting(
        self: &Arc<Self>,
        text: &str,
        class: Class,
        deadline: Deadline,
    ) -> Result<Place, ApiError> {
        let units = self.costs.units_of(text);
        let lane = self.lane(class);
        let room = lane.room.clone().acquire_many_owned(self.permits(lane, units));
        let room = deadline.bound(room).await?.map_err(|_| stopping())?;
        self.in_time(class, units, deadline)?;
        Ok(self.place(class, units, Some(room)))
    }
}
