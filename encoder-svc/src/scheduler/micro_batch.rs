//! Which texts run together, where a device gains from it.
//!
//! A run of several texts pads each to the longest, and computes the padding, too. So texts of similar length go together, as
//! many as a bound on tokens allows, padding included; and the oldest one that waits is always among them, so that none is
//! passed over for its length. Lengths are estimated from bytes, as costs are: texts are tokenized only once they are taken.

use crate::scheduler::cost::estimated_tokens;

/// Of those that wait, so many are looked at for company: the queue is locked meanwhile.
pub(crate) const LOOK_AHEAD: usize = 512;
/// The shortest text of a run may have this part of the longest one's tokens.
const SIMILAR: f32 = 0.6;
/// Texts that differ by fewer tokens are similar, however short.
const CLOSE: usize = 8;

/// How much runs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRule {
    /// Tokens of a run, padding included.
    pub tokens: usize,
    /// A longer text is cut to these.
    pub max_tokens: usize,
}

impl BatchRule {
    /// A run that has this text, whatever its length.
    pub(crate) fn begin(self, bytes: usize) -> MicroBatch {
        let tokens = estimated_tokens(bytes, self.max_tokens);
        MicroBatch { rule: self, texts: 1, shortest: tokens, longest: tokens }
    }
}

/// A run that is being put together.
#[derive(Debug)]
pub(crate) struct MicroBatch {
    rule: BatchRule,
    texts: usize,
    shortest: usize,
    longest: usize,
}

impl MicroBatch {
    /// Whether there is room for one more text of any length.
    pub(crate) fn has_room(&self) -> bool {
        (self.texts + 1) * self.longest <= self.rule.tokens
    }

    /// Takes a text of so many bytes in, if it is like the others and there is room for it.
    pub(crate) fn takes(&mut self, bytes: usize) -> bool {
        let tokens = estimated_tokens(bytes, self.rule.max_tokens);
        let (shortest, longest) = (self.shortest.min(tokens), self.longest.max(tokens));
        let is_similar = longest - shortest <= CLOSE || shortest as f32 >= SIMILAR * longest as f32;
        let fits = (self.texts + 1) * longest <= self.rule.tokens;
        if is_similar && fits {
            (self.texts, self.shortest, self.longest) = (self.texts + 1, shortest, longest);
        }
        is_similar && fits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: BatchRule = BatchRule { tokens: 1024, max_tokens: 256 };

    #[test]
    fn texts_of_similar_length_go_together_until_the_tokens_are_spent() {
        let mut batch = RULE.begin(500);
        let taken = (0..100).filter(|_| batch.takes(500)).count() + 1;
        assert_eq!(taken, 1024 / estimated_tokens(500, 256));
        assert!(!batch.has_room());
    }

    #[test]
    fn a_text_of_another_length_is_left_for_the_next_run() {
        let mut batch = RULE.begin(200);
        assert!(!batch.takes(1000));
        assert!(!batch.takes(20));
        assert!(batch.takes(250));
    }

    #[test]
    fn a_text_that_is_longer_than_the_bound_runs_alone() {
        let mut batch = BatchRule { tokens: 100, max_tokens: 256 }.begin(5000);
        assert!(!batch.has_room() && !batch.takes(5000));
    }

    proptest! {
        #[test]
        fn padding_is_bounded_and_so_is_the_whole(first in 0_usize..3000, others in prop::collection::vec(0_usize..3000, 0..300)) {
            let mut batch = RULE.begin(first);
            let taken: Vec<_> = others.into_iter().filter(|bytes| batch.takes(*bytes)).chain([first]).collect();
            let tokens: Vec<_> = taken.iter().map(|bytes| estimated_tokens(*bytes, 256)).collect();
            let (longest, sum) = (*tokens.iter().max().unwrap(), tokens.iter().sum::<usize>());
            prop_assert!(longest * tokens.len() <= RULE.tokens || tokens.len() == 1);
            // No text is padded by more than its kind allows.
            let padding = longest * tokens.len() - sum;
            prop_assert!(padding <= ((1.0 - SIMILAR) * (longest * tokens.len()) as f32) as usize + CLOSE * tokens.len());
        }
    }
}
