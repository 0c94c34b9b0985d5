//! A limit on work in flight that leaves room for callers that come later.
//!
//! Tokio's semaphore does not fit: one caller can take all of its permits, and those that wait are
//! served in order of arrival, so a caller that waits for many holds up all others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::fair::FairQueue;
use crate::{ApiError, CallerId, Deadline};

/// The number of waiting callers that are considered when work ends. Those at the front that do not
/// fit hold work themselves, so the next end comes.
const LOOK_AHEAD: usize = 64;

/// How many times its work in flight another caller is expected to bring in the time of a request.
/// With 1, requests are late if callers that are served before them keep coming back. With many, a
/// batch beside a caller that seldom calls is rejected for nothing.
const GROWTH: u64 = 4;

/// When a client may retry whose caller has too much in flight.
const RETRY: Duration = Duration::from_millis(100);

/// A limit on the amount of work in flight.
///
/// A caller may hold as much as it leaves free (Choudhury and Hahne 1998): one caller alone gets half
/// of the capacity, two get a third each, and so on. A caller always gets such a share, even while the
/// others have not yet shrunk to theirs, so up to twice the capacity can be in flight. A caller with
/// nothing in flight may begin one request of any size while the capacity is not used up, so a large
/// batch does not starve beside many small calls.
#[derive(Debug)]
pub struct FairLimit {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    capacity: u64,
    total: u64,
    held: HashMap<CallerId, u64>,
    waiting: FairQueue<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    amount: u64,
    granted: oneshot::Sender<FairPermit>,
}

/// An amount of work in flight. Dropping it ends the work.
#[derive(Debug)]
pub struct FairPermit {
    limit: Arc<FairLimit>,
    caller: CallerId,
    amount: u64,
}

/// An item counts as one for each of these bytes that it has or begins.
const BYTES_OF_ONE: usize = 4 << 10;

/// Returns the amount of a text or movie of `bytes` bytes in a limit on items: one for each 4 KiB that it
/// has or begins, at least 1. With the length in it, the limit bounds the memory of items, too.
#[must_use]
pub fn amount_of(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_OF_ONE).max(1) as u64
}

impl State {
    fn new(capacity: u64) -> Self {
        let waiting = FairQueue::new(|waiter: &Waiter| waiter.granted.is_closed());
        Self { capacity, total: 0, held: HashMap::new(), waiting }
    }

    fn held(&self, caller: CallerId) -> u64 {
        self.held.get(&caller).copied().unwrap_or(0)
    }

    fn fits(&self, caller: CallerId, amount: u64) -> bool {
        let before = self.held(caller);
        let own = before + amount;
        let callers = self.held.len() as u64 + u64::from(before == 0);
        let leaves_room = own + self.total + amount <= self.capacity;
        let is_within_its_share = own * (callers + 1) <= self.capacity;
        let is_first = before == 0 && self.total < self.capacity;
        self.total == 0 || leaves_room || is_within_its_share || is_first
    }

    fn add(&mut self, caller: CallerId, amount: u64) {
        self.total += amount;
        *self.held.entry(caller).or_default() += amount;
    }

    fn subtract(&mut self, caller: CallerId, amount: u64) {
        self.total -= amount;
        if let Some(held) = self.held.get_mut(&caller) {
            *held -= amount;
            if *held == 0 {
                self.held.remove(&caller);
            }
        }
    }

    /// Takes the next waiter that fits, and adds its amount.
    fn next(&mut self) -> Option<(CallerId, Waiter)> {
        let mut waiting = self.waiting.first_of_each().take(LOOK_AHEAD);
        let (caller, _) = waiting
            .find(|(caller, waiter)| waiter.granted.is_closed() || self.fits(*caller, waiter.amount))?;
        drop(waiting);
        let waiter = self.waiting.pop_of(caller)?;
        self.waiting.forget_idle();
        self.add(caller, waiter.amount);
        Some((caller, waiter))
    }
}

impl FairLimit {
    /// Creates a limit of `capacity`.
    #[must_use]
    pub fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::new(capacity)) })
    }

    /// Changes the capacity. Work in flight stays.
    pub fn set_capacity(&self, capacity: u64) {
        self.state.lock().capacity = capacity;
    }

    /// The amount of work in flight.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.state.lock().total
    }

    /// The amount of `caller`'s work in flight.
    #[must_use]
    pub fn held_by(&self, caller: CallerId) -> u64 {
        self.state.lock().held(caller)
    }

    /// The amount of work that is likely to end before `amount` more of `caller`, those included, if
    /// the work is done in the order of a [`FairQueue`]. Other callers are expected to bring more work
    /// meanwhile, but each gets no more done than this caller, except for work in progress, which is
    /// not interrupted and is `in_progress` at most.
    #[must_use]
    pub fn ahead_of(&self, caller: CallerId, amount: u64, in_progress: u64) -> u64 {
        let state = self.state.lock();
        let held = state.held(caller);
        let own = held + amount;
        let others = state.held.iter().filter(|(other, _)| **other != caller);
        let in_turns = others.map(|(_, held)| own.min(held.saturating_mul(GROWTH))).sum::<u64>();
        own + in_turns.max(in_progress.min(state.total - held))
    }

    /// Admits `amount` of `caller`'s work, if it fits. Otherwise returns the amount that would have
    /// to fit the capacity, with the room that has to be left.
    pub fn try_acquire(self: &Arc<Self>, caller: CallerId, amount: u64) -> Result<FairPermit, u64> {
        let mut state = self.state.lock();
        if state.fits(caller, amount) {
            state.add(caller, amount);
            return Ok(FairPermit { limit: self.clone(), caller, amount });
        }
        Err(state.held(caller) + state.total + 2 * amount)
    }

    /// Admits `amount` of `caller`'s work, and waits until it fits. Callers that wait take turns.
    pub async fn acquire(self: &Arc<Self>, caller: CallerId, amount: u64) -> FairPermit {
        let granted = {
            let mut state = self.state.lock();
            if state.fits(caller, amount) {
                state.add(caller, amount);
                return FairPermit { limit: self.clone(), caller, amount };
            }
            let (sender, granted) = oneshot::channel();
            state.waiting.take_abandoned();
            state.waiting.push(caller, amount, Waiter { amount, granted: sender });
            granted
        };
        granted.await.expect("a waiter stays in the queue until it is granted or its receiver is gone")
    }

    /// Admits `amount` of `caller`'s work for a call with a response to come. A stream waits; any
    /// other call is rejected if it does not fit. `what` names what is counted, in the plural.
    ///
    /// # Errors
    /// Returns [`ApiError::Overloaded`] if the amount does not fit, and
    /// [`ApiError::DeadlineExceeded`] if the deadline of a stream passes first.
    pub async fn admit(
        self: &Arc<Self>,
        caller: CallerId,
        amount: u64,
        is_stream: bool,
        deadline: Deadline,
        what: &str,
    ) -> Result<FairPermit, ApiError> {
        if is_stream {
            return deadline.bound(self.acquire(caller, amount)).await;
        }
        self.try_acquire(caller, amount).map_err(|_| {
            let (held, total) = (self.held_by(caller), self.total());
            let message = match held {
                0 => format!("too many {what} of all callers are in flight: {total}, and {amount} more"),
                _ => format!("too many {what} of this caller are in flight: {held}, and {amount} more"),
            };
            ApiError::Overloaded { message, retry_after: RETRY }
        })
    }

    fn release(self: &Arc<Self>, caller: CallerId, amount: u64) {
        let mut state = self.state.lock();
        state.subtract(caller, amount);
        while let Some((caller, Waiter { amount, granted })) = state.next() {
            // The receiver's wakeup needs no lock of this limit, but a permit that is dropped does.
            drop(state);
            let permit = FairPermit { limit: self.clone(), caller, amount };
            let returned = granted.send(permit).err();
            state = self.state.lock();
            if let Some(mut permit) = returned {
                // Its waiter has left. Dropping it must not release the amount again.
                state.subtract(caller, std::mem::take(&mut permit.amount));
            }
        }
    }
}

impl FairPermit {
    /// Splits off a part of the amount.
    #[must_use]
    pub fn split(&mut self, amount: u64) -> Self {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Self { limit: self.limit.clone(), caller: self.caller, amount }
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.limit.release(self.caller, self.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn caller(index: usize) -> CallerId {
        CallerId::of_key(&index.to_string())
    }

    /// Takes permits of 1 for callers in turn until none fits.
    fn fill(limit: &Arc<FairLimit>, callers: usize) -> Vec<FairPermit> {
        let mut permits = Vec::new();
        loop {
            let before = permits.len();
            permits.extend((0..callers).filter_map(|index| limit.try_acquire(caller(index), 1).ok()));
            if permits.len() == before {
                return permits;
            }
        }
    }

    #[test]
    fn each_caller_leaves_as_much_free_as_it_holds() {
        for callers in 1..10_u64 {
            let limit = FairLimit::new(10_000);
            let permits = fill(&limit, callers as usize);
            let each = 10_000 / (callers + 1);
            let total = permits.len() as u64;
            assert!(total.abs_diff(each * callers) <= 2 * callers, "{callers} callers hold {total}");
            // One that comes later gets a share at once.
            let late = caller(100);
            assert!(limit.try_acquire(late, 10_000 / (callers + 2)).is_ok());
            drop(permits);
            assert_eq!(limit.total(), 0);
        }
    }

    #[test]
    fn admits_any_amount_first_and_nothing_beside_it() {
        let limit = FairLimit::new(10);
        let all = limit.try_acquire(caller(0), 100).unwrap();
        assert_eq!(limit.try_acquire(caller(0), 1).unwrap_err(), 202);
        assert_eq!(limit.try_acquire(caller(1), 4).unwrap_err(), 108);
        drop(all);
        assert!(limit.try_acquire(caller(1), 100).is_ok());
    }

    #[test]
    fn a_large_batch_fits_beside_small_calls() {
        let limit = FairLimit::new(100);
        let _small = fill(&limit, 3);
        let _large = limit.try_acquire(caller(9), 60).unwrap();
        assert!(limit.try_acquire(caller(9), 60).is_err());
    }

    #[test]
    fn a_permit_is_split_without_a_loss() {
        let limit = FairLimit::new(10);
        let mut all = limit.try_acquire(caller(0), 10).unwrap();
        let part = all.split(3);
        drop(all);
        assert_eq!(limit.total(), 3);
        drop(part);
        assert_eq!(limit.total(), 0);
    }

    #[test]
    fn counts_the_work_ahead_of_new_work() {
        let limit = FairLimit::new(1000);
        let _held = [(0, 100), (1, 10), (2, 40)]
            .map(|(index, amount)| limit.try_acquire(caller(index), amount).unwrap());
        assert_eq!(limit.ahead_of(caller(3), 20, 0), 20 + 20 + 20 + 20);
        assert_eq!(limit.ahead_of(caller(0), 50, 0), 150 + 4 * 10 + 150);
        assert_eq!(
            limit.ahead_of(caller(3), 20, 120),
            20 + 120,
            "others' work in progress is not interrupted"
        );
        assert_eq!(limit.ahead_of(caller(0), 50, 300), 150 + 4 * 10 + 150, "others hold only 50");
    }

    #[tokio::test]
    async fn those_that_wait_take_turns_by_caller() {
        let limit = FairLimit::new(10);
        let first = limit.try_acquire(caller(9), 100).unwrap();
        let mut hostile: Vec<_> = (0..100).map(|_| Box::pin(limit.acquire(caller(0), 5))).collect();
        assert!(hostile.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        let mut polite = Box::pin(limit.acquire(caller(1), 5));
        assert!(polite.as_mut().now_or_never().is_none());
        drop(first);
        assert!(polite.now_or_never().is_some());
    }

    /// Waiters of a caller that left do not use the turns of those that come after them.
    #[tokio::test]
    async fn waiters_that_left_do_not_delay_the_next_one_of_their_caller() {
        let limit = FairLimit::new(1);
        let mut held = limit.try_acquire(caller(9), 1).unwrap();
        for _ in 0..20 {
            assert!(limit.acquire(caller(0), 1).now_or_never().is_none());
        }
        let mut others: Vec<_> = (0..10).map(|_| Box::pin(limit.acquire(caller(1), 1))).collect();
        assert!(others.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        let mut waiting = Box::pin(limit.acquire(caller(0), 1));
        assert!(waiting.as_mut().now_or_never().is_none());
        for mut other in others {
            drop(held);
            if waiting.as_mut().now_or_never().is_some() {
                return;
            }
            held = other.as_mut().now_or_never().unwrap();
        }
        panic!("all others were served first");
    }

    #[tokio::test]
    async fn waiters_that_left_do_not_pile_up() {
        let limit = FairLimit::new(1);
        let _held = limit.try_acquire(caller(0), 1).unwrap();
        for _ in 0..1_000 {
            assert!(limit.acquire(caller(1), 1).now_or_never().is_none());
        }
        assert!(limit.state.lock().waiting.len() <= 64);
    }

    #[tokio::test]
    async fn a_rejection_says_whose_work_is_in_the_way() {
        let limit = FairLimit::new(4);
        let message = async |index| {
            let admitted = limit.admit(caller(index), 3, false, Deadline::NONE, "texts").await;
            admitted.unwrap_err().to_string()
        };
        let _held = limit.try_acquire(caller(0), 5).unwrap();
        assert_eq!(message(0).await, "too many texts of this caller are in flight: 5, and 3 more");
        assert_eq!(message(1).await, "too many texts of all callers are in flight: 5, and 3 more");
    }

    #[tokio::test]
    async fn a_waiter_that_left_takes_nothing() {
        let limit = FairLimit::new(4);
        let held = limit.try_acquire(caller(0), 4).unwrap();
        for _ in 0..10 {
            let mut waiting = Box::pin(limit.acquire(caller(1), 3));
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        let mut last = Box::pin(limit.acquire(caller(1), 3));
        assert!(last.as_mut().now_or_never().is_none());
        drop(held);
        let permit = last.now_or_never().unwrap();
        assert_eq!(limit.total(), 3);
        drop(permit);
        assert_eq!(limit.total(), 0);
    }
}
