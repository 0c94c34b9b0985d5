//! Does this machine give the vectors that the bundle promises?

use crate::bundle::{Agreement, ReferenceText};
use crate::inference::session::EncoderSession;
use crate::tokenizer::TextTokenizer;

/// Runs the reference texts; the error names the first that comes out otherwise.
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

/// In single precision company moves a vector by rounding, which is less than this.
const COMPANY: Agreement = Agreement::MaxDifference(1e-5);

/// Runs the reference texts together; the error names the first whose vector is not the one that it has alone.
pub(crate) fn company_check(
    texts: &[ReferenceText],
    tokenizer: &TextTokenizer,
    session: &mut EncoderSession,
) -> Result<(), String> {
    let tokens =
        texts.iter().map(|reference| tokenizer.tokenize(&reference.text)).collect::<Result<Vec<_>, _>>()?;
    let together = session.run_all(&tokens).map_err(|error| error.to_string())?;
    for (index, (tokens, vector)) in tokens.iter().zip(together).enumerate() {
        let alone = session.run(tokens).map_err(|error| error.to_string())?;
        if let Some(found) = disagreement(COMPANY, &vector, &alone) {
            return Err(format!(
                "reference text {index}, run together with the others against alone: {found}; this graph has to run each \
                 text alone (encoder.batch_tokens = 1), or a bundle in single precision is needed, such as minilm-512-fp32"
            ));
        }
    }
    Ok(())
}

/// What is wrong with `vector`, if anything is.
fn disagreement(agreement: Agreement, vector: &[f32], reference: &[f32]) -> Option<String> {
    let pairs = || vector.iter().zip(reference);
    match agreement {
        Agreement::MaxDifference(bound) => {
            // By `total_cmp` a NaN is the largest of all, where `f32::max` would pass over it.
            let differences = pairs().map(|(a, b)| (a - b).abs());
            let found = differences.max_by(f32::total_cmp).unwrap_or_default();
            let agrees = found <= bound;
            (!agrees).then(|| format!("expected a vector within {bound:e} of the reference, found {found:e}"))
        }
        Agreement::MinCosine(bound) => {
            let norm = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>().sqrt();
            let found = pairs().map(|(a, b)| a * b).sum::<f32>() / (norm(vector) * norm(reference));
            // Two vectors of zeros have no cosine, and are no agreement either.
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
    fn a_quantised_vector_may_be_shorter_but_not_point_elsewhere() {
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
    fn a_vector_of_no_numbers_agrees_with_nothing() {
        for agreement in [Agreement::MaxDifference(1e-5), Agreement::MinCosine(0.9)] {
            assert!(disagreement(agreement, &[0.5, f32::NAN], &[0.5, 0.5]).is_some());
            assert!(disagreement(agreement, &[f32::NAN, 0.5], &[0.5, 0.5]).is_some());
        }
    }
}
