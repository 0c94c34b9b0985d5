//! The content hash and the self-checks, by which a reader recognises a damaged or edited file.
//!
//! The content hash covers metadata and tensors. The self-checks cover the arithmetic: a model must
//! reproduce the outputs that its trainer recorded.

use std::collections::BTreeMap;

use ndarray::Array2;
use sha2::{Digest as _, Sha256};

use crate::file::format::{HASH_KEY, Metadata};
use crate::{Mlp, WordFeatures, WordWeights};

/// The largest accepted difference. Processors may add numbers in different orders.
const TOLERANCE: f32 = 1e-4;

/// Returns SHA-256 over the tensors' bytes and all metadata except the hash itself, in the order of
/// the keys.
pub(super) fn content_hash(metadata: &Metadata, tensors: &[u8]) -> String {
    let mut hash = Sha256::new();
    let sorted: BTreeMap<_, _> = metadata.iter().filter(|(key, _)| *key != HASH_KEY).collect();
    for (key, value) in sorted {
        // The lengths ensure that different sets of pairs have different bytes.
        for text in [key, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    hash.update(tensors);
    hex::encode(hash.finalize())
}

/// Returns the network's probabilities, of shape `[labels]`, for a fixed vector of about unit
/// length.
pub(super) fn self_check_of(mlp: &Mlp) -> Vec<f32> {
    let dimension = mlp.dimension();
    let scale = (dimension as f32).sqrt().recip();
    // Multiples of the golden ratio modulo 1 spread evenly, without a random generator.
    let vector = Array2::from_shape_fn((1, dimension), |(_, index)| {
        let fraction = ((index as f64 + 1.0) * 0.618_033_988_749_894_9).fract() as f32;
        (fraction - 0.5) * 3.464 * scale
    });
    mlp.probabilities(&vector.view()).into_iter().collect()
}

/// Returns the logits, of shape `[labels]`, of a fixed movie's word features. This also verifies
/// how text becomes features.
pub(super) fn words_check_of(words: &WordWeights) -> Vec<f32> {
    let movie =
        WordFeatures::of("The Storm at Sea 2", "A diver loses her map; été, 東京 and a ship's R2-D2.");
    words.logits(&movie).to_vec()
}

/// Checks that `words` gives the logits that its trainer recorded.
pub(super) fn verify_words_check(words: &WordWeights, expected: &[f32]) -> Result<(), String> {
    compare("sum of words", expected, &words_check_of(words))
}

/// Checks that `mlp` gives the probabilities that its trainer recorded.
pub(super) fn verify_self_check(mlp: &Mlp, expected: &[f32]) -> Result<(), String> {
    compare("probability", expected, &self_check_of(mlp))
}

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
    fn rejects_another_network() {
        let expected = self_check_of(&mlp(0.0));
        assert!(verify_self_check(&mlp(0.0), &expected).is_ok());
        assert!(verify_self_check(&mlp(0.1), &expected).unwrap_err().contains("expected probability"));
        assert!(verify_self_check(&mlp(0.0), &expected[..1]).is_err());
        assert!(verify_self_check(&mlp(0.0), &[f32::NAN; 2]).is_err());
    }

    #[test]
    fn hashes_the_boundary_between_key_and_value() {
        let metadata = |key: &str, value: &str| Metadata::from([(key.to_owned(), value.to_owned())]);
        let (one, other) = (metadata("ab", "c"), metadata("a", "bc"));
        assert_ne!(content_hash(&one, b""), content_hash(&other, b""));
        assert_ne!(content_hash(&one, b"x"), content_hash(&one, b"y"));
    }
}
