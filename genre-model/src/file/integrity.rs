//! What a model file says about itself, so that a damaged or half-edited one is told from a sound one.
//!
//! The content hash covers metadata and tensors; the self-check covers the arithmetic: a network that does not give
//! the probabilities its trainer wrote down is not the one that was fitted, whatever its bytes say.

use std::collections::BTreeMap;

use ndarray::Array2;
use sha2::{Digest as _, Sha256};

use crate::{Mlp, WordFeatures, WordWeights};

/// Metadata key of the content hash.
pub(crate) const HASH_KEY: &str = "content_sha256";
/// Metadata key of the self-check's probabilities.
pub(crate) const SELF_CHECK_KEY: &str = "self_check";

/// Metadata key of the self-check of the words.
pub(crate) const WORDS_CHECK_KEY: &str = "words_self_check";

/// Another processor may add in another order.
const TOLERANCE: f32 = 1e-4;

/// SHA-256 over all metadata but the hash itself, in the order of its keys, and the tensors' bytes.
pub(crate) fn content_hash(metadata: &BTreeMap<&str, &str>, tensors: &[u8]) -> String {
    let mut hash = Sha256::new();
    for (key, value) in metadata.iter().filter(|(key, _)| **key != HASH_KEY) {
        // With their lengths, so that no two different sets of pairs are the same bytes.
        for text in [key, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    hash.update(tensors);
    hex::encode(hash.finalize())
}

/// The network's probabilities, shape `[labels]`, for one fixed vector of about unit length.
pub(crate) fn self_check_of(mlp: &Mlp) -> Vec<f32> {
    let dimension = mlp.dimension();
    let scale = (dimension as f32).sqrt().recip();
    // Low-discrepancy signs and sizes without a random generator: the golden ratio's fractional parts.
    let vector = Array2::from_shape_fn((1, dimension), |(_, index)| {
        let fraction = ((index as f64 + 1.0) * 0.618_033_988_749_894_9).fract() as f32;
        (fraction - 0.5) * 3.464 * scale
    });
    mlp.probabilities(&vector.view()).into_iter().collect()
}

/// What the words of one fixed movie add, shape `[labels]`: covers how a movie becomes words and words buckets.
pub(crate) fn words_check_of(words: &WordWeights) -> Vec<f32> {
    let movie =
        WordFeatures::of("The Storm at Sea 2", "A diver loses her map; été, 東京 and a ship's R2-D2.");
    words.logits(&movie).to_vec()
}

/// Whether `words` still give what was written down.
pub(crate) fn verify_words_check(words: &WordWeights, expected: &[f32]) -> Result<(), String> {
    compare("sum of words", expected, &words_check_of(words))
}

/// Whether `mlp` still gives what was written down.
pub(crate) fn verify_self_check(mlp: &Mlp, expected: &[f32]) -> Result<(), String> {
    compare("probability", expected, &self_check_of(mlp))
}

/// The error says what was expected and found.
fn compare(what: &str, expected: &[f32], found: &[f32]) -> Result<(), String> {
    if expected.len() != found.len() {
        let (expected, found) = (found.len(), expected.len());
        return Err(format!("self-check: expected {expected} numbers ({what}), found {found}"));
    }
    for (label, (expected, found)) in expected.iter().zip(found).enumerate() {
        let apart = (expected - found).abs();
        if apart.is_nan() || apart > TOLERANCE {
            return Err(format!("self-check of output {label}: expected {what} {expected}, found {found}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::{Activation, Dense};

    fn mlp(bias: f32) -> Mlp {
        let hidden = Dense { weight: Array2::from_elem((2, 3), 0.5), bias: Array1::zeros(2) };
        let output = Dense { weight: Array2::ones((2, 2)), bias: Array1::from_elem(2, bias) };
        Mlp::new(hidden, Activation::Relu, output).unwrap()
    }

    #[test]
    fn another_network_fails_the_self_check() {
        let expected = self_check_of(&mlp(0.0));
        assert!(verify_self_check(&mlp(0.0), &expected).is_ok());
        assert!(verify_self_check(&mlp(0.1), &expected).unwrap_err().contains("expected probability"));
        assert!(verify_self_check(&mlp(0.0), &expected[..1]).is_err());
        assert!(verify_self_check(&mlp(0.0), &[f32::NAN; 2]).is_err());
    }

    #[test]
    fn moving_text_between_key_and_value_changes_the_hash() {
        let one: BTreeMap<_, _> = [("ab", "c")].into();
        let other: BTreeMap<_, _> = [("a", "bc")].into();
        assert_ne!(content_hash(&one, b""), content_hash(&other, b""));
        assert_ne!(content_hash(&one, b"x"), content_hash(&one, b"y"));
    }
}
