//! The tokens of a text.

/// The input of the graph for one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids with the special tokens, at most the encoder's `max_tokens`. They can be empty.
    pub ids: Vec<i64>,
    /// The hash bucket of each token, if the tokenizer makes hash buckets; otherwise empty.
    pub hash_buckets: Vec<i64>,
    /// Whether the text had more tokens than these.
    pub truncated: bool,
}
