//! The input tensors of a run, in buffers that are reused.

use crate::tokenizer::tokens::Tokens;

/// The tensors of texts of different lengths, in one of the two layouts of
/// [`Inputs`](crate::bundle::Inputs).
#[derive(Debug, Default)]
pub(crate) struct Tensors {
    /// Token ids of all texts.
    pub(crate) ids: Vec<i64>,
    /// Padded: 1 for a token, 0 for padding.
    pub(crate) mask: Vec<i64>,
    /// Ragged: one for each id.
    pub(crate) hash_buckets: Vec<i64>,
    /// Ragged: the first token of each text, and the number of all tokens.
    pub(crate) row_splits: Vec<i64>,
}

impl Tensors {
    /// Fills `ids` and `mask` with a row for each text, as long as the longest. Returns their
    /// shape.
    pub(crate) fn pad(&mut self, texts: &[Tokens]) -> [usize; 2] {
        let longest = texts.iter().map(|tokens| tokens.ids.len()).max().unwrap_or(0);
        self.ids.clear();
        self.mask.clear();
        for (row, Tokens { ids, .. }) in texts.iter().enumerate() {
            let end = (row + 1) * longest;
            self.ids.extend_from_slice(ids);
            self.mask.resize(self.ids.len(), 1);
            // The mask hides the padding, so any id would do.
            self.ids.resize(end, 0);
            self.mask.resize(end, 0);
        }
        [texts.len(), longest]
    }

    /// Fills `ids`, `hash_buckets` and `row_splits` with the texts one after another.
    pub(crate) fn join(&mut self, texts: &[Tokens]) {
        self.ids.clear();
        self.hash_buckets.clear();
        self.row_splits.clear();
        self.row_splits.push(0);
        for Tokens { ids, hash_buckets, .. } in texts {
            self.ids.extend_from_slice(ids);
            self.hash_buckets.extend_from_slice(hash_buckets);
            self.row_splits.push(i64::try_from(self.ids.len()).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[i64]) -> Tokens {
        let hash_buckets = ids.iter().map(|id| id * 10).collect();
        Tokens { ids: ids.to_vec(), hash_buckets, truncated: false }
    }

    #[test]
    fn pads_each_text_to_the_longest() {
        let mut tensors = Tensors::default();
        assert_eq!(tensors.pad(&[tokens(&[9; 7])]), [1, 7], "earlier contents do not matter");
        assert_eq!(tensors.pad(&[tokens(&[1, 2]), tokens(&[3, 4, 5]), tokens(&[6])]), [3, 3]);
        assert_eq!(tensors.ids, [1, 2, 0, 3, 4, 5, 6, 0, 0]);
        assert_eq!(tensors.mask, [1, 1, 0, 1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn joins_ragged_texts_one_after_another() {
        let mut tensors = Tensors::default();
        tensors.join(&[tokens(&[9; 7])]);
        tensors.join(&[tokens(&[1, 2]), tokens(&[]), tokens(&[3])]);
        assert_eq!(tensors.ids, [1, 2, 3]);
        assert_eq!(tensors.hash_buckets, [10, 20, 30]);
        assert_eq!(tensors.row_splits, [0, 2, 2, 3]);
    }
}
