//! Verifies the replies of an encoder: fingerprint, count, dimension, and finite numbers. No other
//! code checks replies.

use genre_model::{EncoderIdentity, Fingerprint};
use ndarray::Array2;
use proto::encoder::v1::{EncodeResponse, GetEncoderResponse};

use crate::failure::Failure;

/// The largest dimension that an encoder may state.
const MAX_DIMENSION: u32 = 1 << 16;

/// The vectors of a batch of texts, in the order of the texts.
#[derive(Debug)]
pub struct Vectors {
    /// Shape `[texts, dimension]`.
    pub values: Array2<f32>,
    /// For each text, whether its end was cut off.
    pub truncated: Vec<bool>,
}

/// How an encoder describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderDescription {
    /// The encoder's identity.
    pub identity: EncoderIdentity,
    /// Floats in a vector.
    pub dimension: usize,
    /// The most texts in one call.
    pub max_batch_size: usize,
    /// The most bytes in one text.
    pub max_text_bytes: usize,
}

/// Checks the response to `GetEncoder`. A limit of 0 means no limit.
pub(crate) fn description(response: GetEncoderResponse) -> Result<EncoderDescription, Failure> {
    let fingerprint =
        Fingerprint::parse(response.fingerprint).map_err(|error| Failure::Malformed(error.to_string()))?;
    let dimension = response.dimension;
    if !(1..=MAX_DIMENSION).contains(&dimension) {
        return Err(malformed(&format!("a dimension of 1 to {MAX_DIMENSION}"), dimension));
    }
    let or_unlimited = |limit: u32| if limit == 0 { usize::MAX } else { limit as usize };
    Ok(EncoderDescription {
        identity: EncoderIdentity { id: response.id, version: response.version, fingerprint },
        dimension: dimension as usize,
        max_batch_size: or_unlimited(response.max_batch_size),
        max_text_bytes: or_unlimited(response.max_text_bytes),
    })
}

/// Checks the response to `texts` texts.
pub(crate) fn vectors(
    response: EncodeResponse,
    texts: usize,
    dimension: usize,
    expected: &EncoderIdentity,
) -> Result<Vectors, Failure> {
    if response.fingerprint != expected.fingerprint.as_str() {
        return Err(Failure::OtherEncoder { expected: expected.clone(), found: response.fingerprint });
    }
    if response.embeddings.len() != texts {
        return Err(malformed(&format!("{texts} vectors, one a text"), response.embeddings.len()));
    }
    let mut values = Vec::with_capacity(texts * dimension);
    let mut truncated = Vec::with_capacity(texts);
    for embedding in response.embeddings {
        if embedding.values.len() != dimension {
            return Err(malformed(&format!("vectors of {dimension} floats"), embedding.values.len()));
        }
        if let Some(found) = embedding.values.iter().find(|value| !value.is_finite()) {
            return Err(malformed("finite numbers", found));
        }
        values.extend(embedding.values);
        truncated.push(embedding.truncated);
    }
    let values = Array2::from_shape_vec((texts, dimension), values)
        .expect("each of the texts added a vector of that dimension");
    Ok(Vectors { values, truncated })
}

fn malformed(expected: &str, found: impl std::fmt::Display) -> Failure {
    Failure::Malformed(format!("expected {expected}, found {found}"))
}

#[cfg(test)]
mod tests {
    use proto::encoder::v1::Embedding;

    use super::*;

    fn identity() -> EncoderIdentity {
        EncoderIdentity {
            id: "tiny".to_owned(),
            version: "1".to_owned(),
            fingerprint: Fingerprint::parse("ab".repeat(32)).unwrap(),
        }
    }

    fn response(vectors: &[&[f32]]) -> EncodeResponse {
        let embedding =
            |values: &&[f32]| Embedding { values: values.to_vec(), token_count: 3, truncated: false };
        EncodeResponse { embeddings: vectors.iter().map(embedding).collect(), fingerprint: "ab".repeat(32) }
    }

    #[test]
    fn rejects_malformed_vectors() {
        let check = |response| vectors(response, 1, 2, &identity()).unwrap_err();
        assert!(vectors(response(&[&[0.5, 1.0]]), 1, 2, &identity()).is_ok());
        let two: &[f32] = &[0.5, 1.0];
        for garbage in [&[][..], &[two, two], &[&[0.5_f32][..]], &[&[0.5, f32::NAN][..]]] {
            assert!(matches!(check(response(garbage)), Failure::Malformed(_)));
        }
        let other = EncodeResponse { fingerprint: "cd".repeat(32), ..response(&[&[0.5, 1.0]]) };
        assert!(matches!(check(other), Failure::OtherEncoder { .. }));
    }

    #[test]
    fn rejects_a_description_without_a_dimension_or_a_fingerprint() {
        let sound = GetEncoderResponse {
            fingerprint: "ab".repeat(32),
            dimension: 16,
            max_batch_size: 8,
            ..GetEncoderResponse::default()
        };
        let found = description(sound.clone()).unwrap();
        assert_eq!((found.max_batch_size, found.max_text_bytes), (8, usize::MAX));
        for dimension in [0, MAX_DIMENSION + 1] {
            assert!(description(GetEncoderResponse { dimension, ..sound.clone() }).is_err());
        }
        assert!(description(GetEncoderResponse { fingerprint: "AB".repeat(32), ..sound }).is_err());
    }
}
