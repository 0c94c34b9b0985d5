//! Does this machine give the vectors that the bundle promises?

use crate::bundle::ReferenceText;
use crate::session::EncoderSession;
use crate::tokenizer::TextTokenizer;

/// Runs the reference texts; the error names the first that comes out otherwise.
pub(crate) fn self_check(
    texts: &[ReferenceText],
    tolerance: f32,
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
        let vector = session.run(&tokens.ids).map_err(|error| error.to_string())?;
        if vector.len() != reference.vector.len() {
            let (expected, found) = (reference.vector.len(), vector.len());
            return Err(format!("reference text {index}: expected {expected} floats, found {found}"));
        }
        let difference = largest_difference(&vector, &reference.vector);
        if difference > tolerance {
            return Err(format!(
                "reference text {index}: expected a vector within {tolerance:e} of the reference, found a \
                 difference of {difference:e}"
            ));
        }
    }
    Ok(())
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
