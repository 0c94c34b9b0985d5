//! The self-check at startup: this machine must reproduce the bundle's reference vectors.

use crate::bundle::{Agreement, ReferenceText};
use crate::inference::session::EncoderSession;
use crate::tokenizer::TextTokenizer;

/// Runs the reference texts. The error names the first text whose tokens or vector differ.
pub(crate) fn self_check(
    texts: &[ReferenceText],
    agreement: Agreement,
    tokenizer: &TextTokenizer,
    session: &mut EncoderSession,
) -> Result<(), String> {
    for (index, reference) in texts.iter().enumerate() {
        let tokens = tokenizer.tokenize(&reference.text)?;
        let found = (tokens.ids.len(), tokens.truncated);
        let expected = (reference.token_count, reference.truncated);
        if found != expected {
            return Err(format!(
                "reference text {index}: expected {expected:?} as (tokens, truncated), found {found:?}"
            ));
        }
        let vector = session.run(&tokens).map_err(|error| error.to_string())?;
        if vector.len() != reference.vector.len() {
            let (expected, found) = (reference.vector.len(), vector.len());
            return Err(format!("reference text {index}: expected {expected} floats, found {found}"));
        }
        disagreement(agreement, &vector, &reference.vector)
            .map_or(Ok(()), |found| Err(format!("reference text {index}: {found}")))?;
    }
    Ok(())
}

/// The largest accepted effect of batching. In single precision, batching changes only the
/// rounding.
const BATCHED: Agreement = Agreement::MaxDifference(1e-5);

/// Runs the reference texts as one batch. The error names the first text whose vector differs from
/// that of the text run alone.
pub(crate) fn batch_check(
    texts: &[ReferenceText],
    tokenizer: &TextTokenizer,
    session: &mut EncoderSession,
) -> Result<(), String> {
    let tokens =
        texts.iter().map(|reference| tokenizer.tokenize(&reference.text)).collect::<Result<Vec<_>, _>>()?;
    let batched = session.run_all(&tokens).map_err(|error| error.to_string())?;
    for (index, (tokens, vector)) in tokens.iter().zip(batched).enumerate() {
        let alone = session.run(tokens).map_err(|error| error.to_string())?;
        if let Some(found) = disagreement(BATCHED, &vector, &alone) {
            return Err(format!(
                "reference text {index}, run in a batch and compared with the same text run alone: {found}; set encoder.batch_tokens \
                 = 1, or use a bundle in single precision such as minilm-512-fp32"
            ));
        }
    }
    Ok(())
}

/// Returns how `vector` disagrees with `reference`, or `None` if it agrees.
fn disagreement(agreement: Agreement, vector: &[f32], reference: &[f32]) -> Option<String> {
    let pairs = || vector.iter().zip(reference);
    match agreement {
        Agreement::MaxDifference(bound) => {
            // `total_cmp` orders a NaN above all numbers; `f32::max` would ignore it.
            let differences = pairs().map(|(a, b)| (a - b).abs());
            let found = differences.max_by(f32::total_cmp).unwrap_or_default();
            let agrees = found <= bound;
            (!agrees).then(|| format!("expected a vector within {bound:e} of the reference, found {found:e}"))
        }
        Agreement::MinCosine(bound) => {
            let norm = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>().sqrt();
            let found = pairs().map(|(a, b)| a * b).sum::<f32>() / (norm(vector) * norm(reference));
            // The cosine of a zero vector is NaN, which counts as a disagreement.
            let agrees = found >= bound;
            (!agrees)
                .then(|| format!("expected a cosine of at least {bound} with the reference, found {found}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantised_vector_may_differ_in_length_but_not_in_direction() {
        let agreement = Agreement::MinCosine(0.9);
        assert_eq!(disagreement(agreement, &[0.5, 0.5], &[1.0, 1.0]), None);
        assert!(disagreement(agreement, &[1.0, 0.0], &[1.0, 1.0]).is_some());
        assert!(disagreement(agreement, &[0.0, 0.0], &[1.0, 1.0]).is_some());
    }

    #[test]
    fn a_single_precision_vector_may_differ_by_rounding_only() {
        let agreement = Agreement::MaxDifference(1e-5);
        assert_eq!(disagreement(agreement, &[0.500_001], &[0.5]), None);
        assert!(disagreement(agreement, &[0.51], &[0.5]).is_some());
    }

    #[test]
    fn a_vector_with_nan_never_agrees() {
        for agreement in [Agreement::MaxDifference(1e-5), Agreement::MinCosine(0.9)] {
            assert!(disagreement(agreement, &[0.5, f32::NAN], &[0.5, 0.5]).is_some());
            assert!(disagreement(agreement, &[f32::NAN, 0.5], &[0.5, 0.5]).is_some());
        }
    }
}
