//! A queue in which callers that all have work waiting get equal shares, by cost.
//!
//! This is start-time fair queueing (Goyal, Vin and Cheng 1996): each caller's entries are first in,
//! first out, and an entry starts at a virtual time that is the end of the caller's entry before it.
//! The entry with the earliest start is next. A new caller starts at the current virtual time, so
//! it waits for no backlog but its own. With one caller, the queue is first in, first out. Deficit
//! round robin (Shreedhar and Varghese 1996) is simpler, but a new caller waits for a whole round.
//! No crate offers either for entries of unequal cost.
//!
//! An entry is abandoned once nobody waits for it. It costs its caller nothing, so that a caller whose
//! earlier call was cancelled does not wait behind it. It stays until it is next or
//! [`take_abandoned`](FairQueue::take_abandoned) finds it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};

use crate::CallerId;

/// Virtual time is counted in this fraction of a cost, so that it advances by small steps too.
const STEPS: u64 = 1 << 10;
/// The number of callers that are remembered before the first sweep.
const FIRST_SWEEP: usize = 64;
/// The fewest entries that are pushed between two searches for abandoned ones.
const SEARCH_AFTER: usize = 64;

/// A queue of entries of many callers; see the [module](self).
#[derive(Debug)]
pub struct FairQueue<T> {
    flows: HashMap<CallerId, Flow<T>>,
    /// The callers with entries, in the order in which they are next.
    turns: BTreeSet<Turn>,
    /// The virtual time at which a new caller starts.
    now: u64,
    next_order: u64,
    len: usize,
    /// The cost of all entries.
    cost: u64,
    sweep_at: usize,
    is_abandoned: fn(&T) -> bool,
    /// The entries that were pushed since the last search for abandoned ones, and their cost.
    pushed: usize,
    pushed_cost: u64,
}

/// When a caller is next. Equal starts are in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    start: u64,
    order: u64,
    caller: CallerId,
}

/// The entries of one caller.
#[derive(Debug)]
struct Flow<T> {
    /// Costs and entries, oldest first.
    entries: VecDeque<(u64, T)>,
    /// The virtual start of the first entry. It outlives the entries, so a caller gains nothing
    /// by sending one entry at a time.
    turn: Turn,
}

impl<T> FairQueue<T> {
    /// Creates an empty queue. `is_abandoned` says that nobody waits for an entry any more.
    #[must_use]
    pub fn new(is_abandoned: fn(&T) -> bool) -> Self {
        Self {
            flows: HashMap::new(),
            turns: BTreeSet::new(),
            now: 0,
            next_order: 0,
            len: 0,
            cost: 0,
            sweep_at: FIRST_SWEEP,
            is_abandoned,
            pushed: 0,
            pushed_cost: 0,
        }
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    /// Appends an entry of `caller`.
    pub fn push(&mut self, caller: CallerId, cost: u64, entry: T) {
        self.sweep();
        let (now, order) = (self.now, self.order());
        let new = || Flow { entries: VecDeque::new(), turn: Turn { start: now, order, caller } };
        let flow = self.flows.entry(caller).or_insert_with(new);
        if flow.entries.is_empty() {
            flow.turn = Turn { start: flow.turn.start.max(now), order, caller };
            self.turns.insert(flow.turn);
        }
        flow.entries.push_back((cost, entry));
        self.len += 1;
        self.cost += cost;
        self.pushed += 1;
        self.pushed_cost += cost;
    }

    /// Removes the next entry.
    pub fn pop(&mut self) -> Option<T> {
        let caller = self.turns.first()?.caller;
        self.pop_of(caller)
    }

    /// Removes the oldest entry of `caller`. An abandoned one leaves the caller's turn as it is.
    pub fn pop_of(&mut self, caller: CallerId) -> Option<T> {
        let order = self.order();
        let flow = self.flows.get_mut(&caller)?;
        let (cost, entry) = flow.entries.pop_front()?;
        self.len -= 1;
        self.cost -= cost;
        if (self.is_abandoned)(&entry) {
            if flow.entries.is_empty() {
                self.turns.remove(&flow.turn);
            }
            return Some(entry);
        }
        self.turns.remove(&flow.turn);
        let start = flow.turn.start;
        flow.turn = Turn { start: start + cost * STEPS, order, caller };
        if !flow.entries.is_empty() {
            self.turns.insert(flow.turn);
        }
        self.advance(cost);
        self.now = self.now.max(start);
        Some(entry)
    }

    /// Advances the virtual time by the part of `cost` that each caller gets, and one more that may
    /// come. Without this, ever new callers would all start at the same time, and the second entry
    /// of a caller would never be next.
    fn advance(&mut self, cost: u64) {
        self.now += cost * STEPS / (self.turns.len() as u64 + 2);
    }

    /// The oldest entry of each caller, in the order in which they are next.
    pub fn first_of_each(&self) -> impl Iterator<Item = (CallerId, &T)> {
        self.turns.iter().filter_map(|turn| {
            let flow = self.flows.get(&turn.caller)?;
            flow.entries.front().map(|(_, entry)| (turn.caller, entry))
        })
    }

    /// Shows up to `look_ahead` entries to `accepts`, in the order in which they are next, and
    /// removes those that it accepts. The others keep their place. Abandoned entries are removed
    /// without being shown.
    pub fn pop_more(&mut self, look_ahead: usize, mut accepts: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut accepted: BTreeMap<CallerId, Vec<usize>> = BTreeMap::new();
        let mut walk: BinaryHeap<_> = self.turns.iter().map(|turn| Reverse((*turn, 0))).collect();
        for _ in 0..look_ahead {
            let Some(Reverse((turn, index))) = walk.pop() else { break };
            let entries = &self.flows[&turn.caller].entries;
            let Some((cost, entry)) = entries.get(index) else { continue };
            let is_abandoned = (self.is_abandoned)(entry);
            if is_abandoned || accepts(entry) {
                accepted.entry(turn.caller).or_default().push(index);
            }
            let start = if is_abandoned { turn.start } else { turn.start + cost * STEPS };
            walk.push(Reverse((Turn { start, ..turn }, index + 1)));
        }
        let mut taken = Vec::new();
        for (caller, indices) in accepted {
            self.remove(caller, &indices, &mut taken);
        }
        taken
    }

    /// Moves the entries of `caller` at `indices`, which are sorted, to `taken`.
    fn remove(&mut self, caller: CallerId, indices: &[usize], taken: &mut Vec<T>) {
        let order = self.order();
        let (Some(flow), Some(last)) = (self.flows.get_mut(&caller), indices.last()) else { return };
        self.turns.remove(&flow.turn);
        let (mut kept, mut indices, mut total) = (Vec::new(), indices.iter().peekable(), 0);
        for (index, (cost, entry)) in flow.entries.drain(..=*last).enumerate() {
            if indices.next_if_eq(&&index).is_some() {
                if !(self.is_abandoned)(&entry) {
                    total += cost;
                }
                self.cost -= cost;
                self.len -= 1;
                taken.push(entry);
            } else {
                kept.push((cost, entry));
            }
        }
        for entry in kept.into_iter().rev() {
            flow.entries.push_front(entry);
        }
        flow.turn = Turn { start: flow.turn.start + total * STEPS, order, caller };
        if !flow.entries.is_empty() {
            self.turns.insert(flow.turn);
        }
        self.advance(total);
    }

    /// Removes the abandoned entries, wherever they are, once as much was pushed as half of what
    /// waits; before that, returns none. So the entries cost at most twice as much as those that
    /// were not abandoned, and a few more, and each push examines a few entries on average.
    pub fn take_abandoned(&mut self) -> Vec<T> {
        if self.pushed < SEARCH_AFTER || self.pushed_cost < self.cost / 2 {
            return Vec::new();
        }
        (self.pushed, self.pushed_cost) = (0, 0);
        let is_abandoned = self.is_abandoned;
        let mut taken = Vec::new();
        for flow in self.flows.values_mut() {
            if !flow.entries.iter().any(|(_, entry)| is_abandoned(entry)) {
                continue;
            }
            let entries = std::mem::take(&mut flow.entries);
            let (left, kept): (VecDeque<_>, VecDeque<_>) =
                entries.into_iter().partition(|(_, entry)| is_abandoned(entry));
            flow.entries = kept;
            if flow.entries.is_empty() {
                self.turns.remove(&flow.turn);
            }
            for (cost, entry) in left {
                self.len -= 1;
                self.cost -= cost;
                taken.push(entry);
            }
        }
        taken
    }

    /// Forgets what callers had before, once none of their work waits or runs.
    pub fn forget_idle(&mut self) {
        if self.is_empty() {
            self.flows.clear();
            self.now = 0;
        }
    }

    /// Forgets callers without entries that would start at the current virtual time anyway.
    fn sweep(&mut self) {
        if self.flows.len() >= self.sweep_at {
            let now = self.now;
            self.flows.retain(|_, flow| !flow.entries.is_empty() || flow.turn.start > now);
            self.sweep_at = FIRST_SWEEP.max(2 * self.flows.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(index: usize) -> CallerId {
        CallerId::of_key(&index.to_string())
    }

    /// A queue of entries of which none is abandoned.
    fn queue<T>() -> FairQueue<T> {
        FairQueue::new(|_| false)
    }

    #[test]
    fn one_caller_is_first_in_first_out() {
        let mut queue = queue();
        (0..9).for_each(|entry| queue.push(caller(0), 10 + entry % 3, entry));
        assert_eq!(queue.pop_more(6, |entry| entry % 2 == 0), [0, 2, 4]);
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [1, 3, 5, 6, 7, 8]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_new_caller_waits_for_at_most_one_entry_of_a_backlog() {
        let mut queue = queue();
        (0..1000).for_each(|_| queue.push(caller(0), 50, "backlog"));
        for _ in 0..100 {
            queue.pop();
        }
        queue.push(caller(1), 1, "new");
        let next: Vec<_> = (0..2).filter_map(|_| queue.pop()).collect();
        assert!(next.contains(&"new"), "{next:?}");
    }

    /// A caller gains nothing by sending its entries one at a time.
    #[test]
    fn a_caller_that_was_just_served_does_not_start_again_at_once() {
        let mut queue = queue();
        (0..1000).for_each(|_| queue.push(caller(0), 10, 0));
        let mut served = [0; 2];
        for _ in 0..100 {
            queue.push(caller(1), 10, 1);
            served[queue.pop().unwrap()] += 1;
        }
        assert!(served[1] <= 51, "{served:?}");
    }

    #[test]
    fn ever_new_callers_do_not_starve_a_second_entry() {
        let mut queue = queue();
        (0..2).for_each(|index| queue.push(caller(0), 10, index == 1));
        let mut popped = 0;
        for new in 1.. {
            (0..2).for_each(|twin| queue.push(caller(2 * new + twin), 10, false));
            popped += 1;
            if queue.pop() == Some(true) {
                break;
            }
            assert!(popped < 100, "the second entry waits for ever");
        }
    }

    /// A queue of numbers and whether they are abandoned.
    fn queue_of_some_abandoned() -> FairQueue<(u32, bool)> {
        FairQueue::new(|(_, is_abandoned)| *is_abandoned)
    }

    #[test]
    fn abandoned_entries_come_out_in_a_row_and_use_no_share() {
        let mut queue = queue_of_some_abandoned();
        (0..100).for_each(|number| queue.push(caller(0), 10, (number, true)));
        queue.push(caller(0), 10, (100, false));
        (0..4).for_each(|number| queue.push(caller(1), 10, (200 + number, false)));
        let popped: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(number, _)| number).collect();
        let expected: Vec<_> = (0..=100).chain(200..204).collect();
        assert_eq!(popped, expected);
        assert_eq!((queue.len(), queue.cost), (0, 0));
    }

    #[test]
    fn a_batch_takes_abandoned_entries_without_showing_or_charging_them() {
        let mut queue = queue_of_some_abandoned();
        (0..6).for_each(|number| queue.push(caller(0), 10, (number, number % 2 == 0)));
        queue.push(caller(1), 10, (9, false));
        let mut shown = Vec::new();
        let taken = queue.pop_more(4, |(number, _)| {
            shown.push(*number);
            false
        });
        assert_eq!((taken, shown), (vec![(0, true), (2, true)], vec![1, 9]));
        assert_eq!(queue.flows[&caller(0)].turn.start, 0);
    }

    /// Callers leave again and again behind an entry that stays at the front.
    #[test]
    fn abandoned_entries_do_not_pile_up() {
        let mut queue = FairQueue::new(|entry: &std::rc::Weak<()>| entry.strong_count() == 0);
        let stays: Vec<_> = (0..100).map(|_| std::rc::Rc::new(())).collect();
        for entry in &stays {
            queue.push(caller(0), 10, std::rc::Rc::downgrade(entry));
        }
        let mut most = 0;
        for call in 0..1_000 {
            let leaves = std::rc::Rc::new(());
            queue.take_abandoned();
            for _ in 0..10 {
                queue.push(caller(call % 3), 20, std::rc::Rc::downgrade(&leaves));
            }
            most = most.max(queue.len());
        }
        assert!(most <= 200, "{most} entries");
        let left = std::iter::from_fn(|| queue.pop()).filter(|entry| entry.strong_count() > 0).count();
        assert_eq!((left, queue.cost), (stays.len(), 0));
        assert!(queue.turns.is_empty());
    }

    #[test]
    fn callers_that_left_are_forgotten() {
        let mut queue = queue();
        for index in 0..10_000 {
            queue.push(caller(index), 10, ());
            queue.pop();
        }
        assert!(queue.flows.len() < 200, "{}", queue.flows.len());
        queue.forget_idle();
        assert!(queue.flows.is_empty());
    }

    proptest! {
        /// While all callers have entries waiting, the costs served differ by at most one entry of
        /// each, whatever the costs are and however the entries are taken.
        #[test]
        fn backlogged_callers_get_equal_shares(
            costs in prop::collection::vec(prop::collection::vec(40_u64..1400, 60..120), 2..6),
            batches in prop::collection::vec(0_usize..6, 40..60),
        ) {
            let mut queue = queue();
            for (index, costs) in costs.iter().enumerate() {
                for cost in costs {
                    queue.push(caller(index), *cost, (index, *cost));
                }
            }
            let mut served = vec![0_u64; costs.len()];
            for batch in batches {
                let first = queue.pop().into_iter();
                let mut room = batch;
                let more = queue.pop_more(8, |_| { let takes = room > 0; room -= usize::from(takes); takes });
                first.chain(more).for_each(|(index, cost)| served[index] += cost);
                // Only while all have a backlog.
                if queue.turns.len() < costs.len() { break }
                let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
                prop_assert!(most - least <= 2 * 1400, "{:?}", served);
            }
        }

        #[test]
        fn each_entry_is_served_once_and_in_order_of_its_caller(
            entries in prop::collection::vec((0_usize..5, 1_u64..100, any::<bool>()), 0..200)
        ) {
            let mut queue = queue();
            let mut popped = Vec::new();
            for (number, (index, cost, pops)) in entries.iter().enumerate() {
                queue.push(caller(*index), *cost, (*index, number));
                if *pops { popped.extend(queue.pop()) }
            }
            popped.extend(std::iter::from_fn(|| queue.pop()));
            prop_assert_eq!(popped.len(), entries.len());
            prop_assert_eq!(queue.len(), 0);
            for index in 0..5 {
                let order: Vec<_> = popped.iter().filter(|(of, _)| *of == index).collect();
                prop_assert!(order.windows(2).all(|pair| pair[0].1 < pair[1].1));
            }
        }
    }
}
