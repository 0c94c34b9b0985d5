//! Synthetic vectors for tests.

use genre_model::{EncoderIdentity, Fingerprint, InputTemplate, LabelSet, WordFeatures};

use crate::Vectors;
use crate::data::vectors_file::{VectorRows, VectorsHeader};

/// Returns movies with ids from 1 and vectors of 8 floats, from which three genres can be learnt.
pub(crate) fn vectors(movies: u64) -> Vectors {
    let ids: Vec<u64> = (1..=movies).collect();
    let values: Vec<f32> = ids
        .iter()
        .flat_map(|id| (0..8_u64).map(move |i| ((id * 7919 + i * 104_729) as f32 * 0.37).sin()))
        .collect();
    let set = LabelSet::built_in();
    let labels = values
        .chunks(8)
        .map(|vector| {
            let first = if vector[0] * vector[1] > 0.0 { "Drama" } else { "Comedy" };
            set.movie_labels([first].into_iter().chain((vector[2] > 0.3).then_some("War"))).unwrap()
        })
        .collect();
    let header = VectorsHeader {
        encoder: EncoderIdentity {
            id: "tiny-8".to_owned(),
            version: "1".to_owned(),
            fingerprint: Fingerprint::parse("ab".repeat(32)).unwrap(),
        },
        dimension: 8,
        template: InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap(),
        data_digest: "cd".repeat(32),
        labels: set,
    };
    let word_features = ids.iter().map(|id| WordFeatures::of("", &format!("movie number {id}"))).collect();
    let overviews = ids.clone();
    Vectors::from_rows(VectorRows { ids, labels, values, word_features, overviews }, header)
}
