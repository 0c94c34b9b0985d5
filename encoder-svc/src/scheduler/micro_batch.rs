//! Which texts run together, on a device that gains from batches.
//!
//! A batch pads each text to the longest, and computes the padding too. So texts of similar length
//! go together, up to a limit on tokens, padding included. The oldest entry is always part of the
//! batch, so no text is passed over for its length. Lengths are estimated from bytes, as costs are,
//! because texts are tokenized only after they leave the queue.

use crate::scheduler::cost::estimated_tokens;

/// The number of waiting entries that are considered for a batch. The queue is locked meanwhile.
pub(crate) const LOOK_AHEAD: usize = 512;
/// The shortest text of a batch has at least this fraction of the longest one's tokens.
const SIMILAR: f32 = 0.6;
/// Texts that differ by at most this many tokens are similar, however short.
const CLOSE: usize = 8;

/// The size limit of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRule {
    /// The tokens of a batch, padding included.
    pub tokens: usize,
    /// The tokens after which a text is cut.
    pub max_tokens: usize,
}

impl BatchRule {
    /// Begins a batch with a text of any length.
    pub(crate) fn begin(self, bytes: usize) -> MicroBatch {
        let tokens = estimated_tokens(bytes, self.max_tokens);
        MicroBatch { rule: self, texts: 1, shortest: tokens, longest: tokens }
    }
}

/// A batch that is being put together.
#[derive(Debug)]
pub(crate) struct MicroBatch {
    rule: BatchRule,
    texts: usize,
    shortest: usize,
    longest: usize,
}

impl MicroBatch {
    /// Whether one more text could fit.
    pub(crate) fn can_grow(&self) -> bool {
        (self.texts + 1) * self.longest <= self.rule.tokens
    }

    /// Adds a text of `bytes` bytes if it fits and its length is similar. Returns whether it was
    /// added.
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
    fn takes_texts_of_similar_length_until_the_tokens_are_used_up() {
        let mut batch = RULE.begin(500);
        let taken = (0..100).filter(|_| batch.takes(500)).count() + 1;
        assert_eq!(taken, 1024 / estimated_tokens(500, 256));
        assert!(!batch.can_grow());
    }

    #[test]
    fn leaves_a_text_of_another_length_for_the_next_batch() {
        let mut batch = RULE.begin(200);
        assert!(!batch.takes(1000));
        assert!(!batch.takes(20));
        assert!(batch.takes(250));
    }

    #[test]
    fn a_text_longer_than_the_bound_runs_alone() {
        let mut batch = BatchRule { tokens: 100, max_tokens: 256 }.begin(5000);
        assert!(!batch.can_grow() && !batch.takes(5000));
    }

    proptest! {
        #[test]
        fn bounds_the_padding_and_the_whole_batch(first in 0_usize..3000, others in prop::collection::vec(0_usize..3000, 0..300)) {
            let mut batch = RULE.begin(first);
            let taken: Vec<_> = others.into_iter().filter(|bytes| batch.takes(*bytes)).chain([first]).collect();
            let tokens: Vec<_> = taken.iter().map(|bytes| estimated_tokens(*bytes, 256)).collect();
            let (longest, sum) = (*tokens.iter().max().unwrap(), tokens.iter().sum::<usize>());
            prop_assert!(longest * tokens.len() <= RULE.tokens || tokens.len() == 1);
            // No text is padded by more than the similarity rule allows.
            let padding = longest * tokens.len() - sum;
            prop_assert!(padding <= ((1.0 - SIMILAR) * (longest * tokens.len()) as f32) as usize + CLOSE * tokens.len());
        }
    }
}
