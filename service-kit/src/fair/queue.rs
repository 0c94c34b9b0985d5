//! A queue in which callers that all have work waiting get equal shares, by cost.
//!
//! This is start-time fair queueing (Goyal, Vin and Cheng 1996): each caller's entries are first in,
//! first out, and an entry starts at a virtual time that is the end of the caller's entry before it.
//! The entry with the earliest start is next. A new caller starts at the current virtual time, so
//! it waits for no backlog but its own. With one caller, the queue is first in, first out. Deficit
//! round robin (Shreedhar and Varghese 1996) is simpler, but a new caller waits for a whole round.
//! No crate offers either for entries of unequal cost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};

use crate::CallerId;

/// Virtual time is counted in this fraction of a cost, so that it advances by small steps too.
const STEPS: u64 = 1 << 10;
/// The number of callers that are remembered before the first sweep.
const FIRST_SWEEP: usize = 64;

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
    sweep_at: usize,
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

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            flows: HashMap::new(),
            turns: BTreeSet::new(),
            now: 0,
            next_order: 0,
            len: 0,
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl<T> FairQueue<T> {
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
    }

    /// Removes the next entry.
    pub fn pop(&mut self) -> Option<T> {
        let caller = self.turns.first()?.caller;
        self.pop_of(caller)
    }

    /// Removes the oldest entry of `caller`.
    pub fn pop_of(&mut self, caller: CallerId) -> Option<T> {
        let order = self.order();
        let flow = self.flows.get_mut(&caller)?;
        let (cost, entry) = flow.entries.pop_front()?;
        self.turns.remove(&flow.turn);
        let start = flow.turn.start;
        flow.turn = Turn { start: start + cost * STEPS, order, caller };
        if !flow.entries.is_empty() {
            self.turns.insert(flow.turn);
        }
        self.len -= 1;
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
    /// removes those that it accepts. The others keep their place.
    pub fn pop_more(&mut self, look_ahead: usize, mut accepts: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut accepted: BTreeMap<CallerId, Vec<usize>> = BTreeMap::new();
        let mut walk: BinaryHeap<_> = self.turns.iter().map(|turn| Reverse((*turn, 0))).collect();
        for _ in 0..look_ahead {
            let Some(Reverse((turn, index))) = walk.pop() else { break };
            let entries = &self.flows[&turn.caller].entries;
            let Some((cost, entry)) = entries.get(index) else { continue };
            if accepts(entry) {
                accepted.entry(turn.caller).or_default().push(index);
            }
            let start = turn.start + cost * STEPS;
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
                total += cost;
                taken.push(entry);
                self.len -= 1;
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

    #[test]
    fn one_caller_is_first_in_first_out() {
        let mut queue = FairQueue::default();
        (0..9).for_each(|entry| queue.push(caller(0), 10 + entry % 3, entry));
        assert_eq!(queue.pop_more(6, |entry| entry % 2 == 0), [0, 2, 4]);
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [1, 3, 5, 6, 7, 8]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_new_caller_waits_for_at_most_one_entry_of_a_backlog() {
        let mut queue = FairQueue::default();
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
        let mut queue = FairQueue::default();
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
        let mut queue = FairQueue::default();
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

    #[test]
    fn callers_that_left_are_forgotten() {
        let mut queue = FairQueue::default();
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
            let mut queue = FairQueue::default();
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
            let mut queue = FairQueue::default();
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
