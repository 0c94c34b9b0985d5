//! The names in a model file, which is a safetensors file with metadata.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// The `format` of a model without word weights.
pub(super) const FORMAT: &str = "movieclassifier.genre-model/1";
/// The `format` of a model with word weights. A reader that knows only the first format must reject
/// it.
pub(super) const FORMAT_WITH_WORDS: &str = "movieclassifier.genre-model/2";

/// Metadata key of the content hash.
pub(super) const HASH_KEY: &str = "content_sha256";
/// Metadata key of the probabilities that verify the network.
pub(super) const SELF_CHECK_KEY: &str = "self_check";
/// Metadata key of the logits that verify the word weights.
pub(super) const WORDS_CHECK_KEY: &str = "words_self_check";
/// Metadata key of the rule by which a movie becomes word features.
pub(super) const WORDS_RULE_KEY: &str = "words_rule";

/// The metadata of a safetensors file.
pub(super) type Metadata = HashMap<String, String>;

/// The metadata `thresholds`.
#[derive(Serialize, Deserialize)]
pub(super) struct ThresholdsRecord {
    pub(super) rule: String,
    pub(super) global: f32,
    pub(super) per_genre: Vec<f32>,
}

/// Returns the tensors' bytes, which follow the header of a valid safetensors file.
pub(super) fn tensors_of(bytes: &[u8]) -> &[u8] {
    let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length) as usize);
    bytes.get(length.saturating_add(8)..).unwrap_or_default()
}
