//! The entries that wait, in two classes, and which class is next.

use service_kit::FairQueue;

use crate::scheduler::entry::{Class, PerClass};
use crate::scheduler::limits::BULK_SHARE;

/// The class queues; each caller's entries are first in, first out.
pub(super) struct ClassQueues<T> {
    pub(super) queues: PerClass<FairQueue<T>>,
    online_in_a_row: u32,
    is_abandoned: fn(&T) -> bool,
}

impl<T> ClassQueues<T> {
    /// Creates empty queues. `is_abandoned` says that the caller of an entry has left.
    pub(super) fn new(is_abandoned: fn(&T) -> bool) -> Self {
        let queues = PerClass::new(|_| FairQueue::new(is_abandoned));
        Self { queues, online_in_a_row: 0, is_abandoned }
    }

    /// Returns empty queues of the same kind.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.is_abandoned)
    }

    pub(super) fn len(&self) -> usize {
        self.queues.online.len() + self.queues.bulk.len()
    }

    pub(super) fn pop_of(&mut self, class: Class) -> Option<(T, Class)> {
        self.queues.of_mut(class).pop().map(|entry| (entry, class))
    }

    /// Removes the next entry. An abandoned one uses no turn of its class, because it does not run.
    pub(super) fn pop(&mut self) -> Option<(T, Class)> {
        let bulk_is_due =
            self.online_in_a_row.saturating_add(1) >= BULK_SHARE && !self.queues.bulk.is_empty();
        let online = if bulk_is_due { None } else { self.pop_of(Class::Online) };
        let taken = online.or_else(|| self.pop_of(Class::Bulk));
        match &taken {
            Some((entry, _)) if (self.is_abandoned)(entry) => {}
            Some((_, Class::Online)) => self.online_in_a_row = self.online_in_a_row.saturating_add(1),
            Some((_, Class::Bulk)) | None => self.online_in_a_row = 0,
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use service_kit::CallerId;

    use super::*;

    #[test]
    fn abandoned_entries_use_no_turn_of_their_class() {
        let mut waiting = ClassQueues::new(|is_abandoned: &bool| *is_abandoned);
        for class in [Class::Online, Class::Bulk] {
            for is_abandoned in [true, false] {
                for _ in 0..20 {
                    waiting.queues.of_mut(class).push(CallerId::UNKNOWN, 1, is_abandoned);
                }
            }
        }
        let taken: Vec<_> = std::iter::from_fn(|| waiting.pop()).collect();
        let mut stay = taken.iter().filter(|(is_abandoned, _)| !is_abandoned).map(|(_, class)| *class);
        for _ in 0..2 {
            let online: Vec<_> = stay.by_ref().take(7).collect();
            assert_eq!(online, [Class::Online; 7], "{taken:?}");
            assert_eq!(stay.next(), Some(Class::Bulk), "{taken:?}");
        }
    }
}
