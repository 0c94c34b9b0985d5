//! The truth: the vector of each text, all models that were written, and the expected response for
//! each movie.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use genre_model::{
    Activation, Dense, EncoderIdentity, Fingerprint, GENRES, GenreModel, InputTemplate, Mlp, Provenance,
    SPLIT_RULE, Thresholds, WordFeatures,
};
use ndarray::{Array1, Array2};
use proto::classifier::v1::{ClassifyResponse, GenreScore, Movie};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Floats in a vector.
pub const DIMENSION: usize = 16;
/// Longer texts are truncated, as by the real encoders.
pub const MAX_TOKENS: usize = 64;
const HIDDEN: usize = 6;

/// The fingerprint of an encoder generation.
#[must_use]
pub fn fingerprint(generation: u32) -> String {
    format!("{:016x}", xxh3_64(&generation.to_le_bytes())).repeat(4)
}

/// A pure function of its arguments, from -1 to 1.
fn number(bytes: &[u8], seed: u64) -> f32 {
    let bits = (xxh3_64_with_seed(bytes, seed) >> 40) as f32;
    bits / (1 << 23) as f32 - 1.0
}

/// The number of tokens of a text, and whether it is truncated.
#[must_use]
pub fn tokens(text: &str) -> (usize, bool) {
    let words = text.split_whitespace().count() + 2;
    (words.min(MAX_TOKENS), words > MAX_TOKENS)
}

/// The vector of a text, by the encoder of a fingerprint.
#[must_use]
pub fn vector(fingerprint: &str, text: &str) -> Vec<f32> {
    let seed = xxh3_64(fingerprint.as_bytes());
    (0..DIMENSION as u64).map(|index| number(text.as_bytes(), seed.wrapping_add(index))).collect()
}

/// The time of a run of the text on a single-core worker.
#[must_use]
pub fn cost(text: &str) -> Duration {
    let chance = xxh3_64(text.as_bytes()) % 4;
    Duration::from_millis(3 + tokens(text).0 as u64 / 3 + chance)
}

/// The template from movies to texts.
#[must_use]
pub fn template() -> InputTemplate {
    InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).expect("a constant of the crate")
}

/// A model for an encoder generation, by number. Any two models predict different genres.
#[must_use]
pub fn model(generation: u32, number_of_model: u64) -> GenreModel {
    let seed = xxh3_64(&[u64::from(generation), number_of_model].map(u64::to_le_bytes).concat());
    let weight = |layer: u8, (row, column): (usize, usize)| {
        number(&[&[layer], &row.to_le_bytes()[..], &column.to_le_bytes()[..]].concat(), seed)
    };
    let dense = |layer: u8, outputs: usize, inputs: usize| Dense {
        weight: Array2::from_shape_fn((outputs, inputs), |index| weight(layer, index)),
        bias: Array1::from_shape_fn(outputs, |row| weight(layer + 1, (row, 0))),
    };
    let mlp = Mlp::new(dense(0, HIDDEN, DIMENSION), Activation::Relu, dense(2, GENRES.len(), HIDDEN))
        .expect("the layers fit and are finite");
    let thresholds = (0..GENRES.len()).map(|label| 0.5 + 0.3 * weight(4, (label, 0))).collect();
    let provenance = Provenance {
        encoder: EncoderIdentity {
            id: "simulated-16".to_owned(),
            version: generation.to_string(),
            fingerprint: Fingerprint::parse(fingerprint(generation)).expect("64 digits"),
        },
        input_template: template(),
        data_digest: String::new(),
        split_rule: SPLIT_RULE.to_owned(),
        hyper_parameters: BTreeMap::new(),
        metrics: BTreeMap::new(),
    };
    let thresholds = Thresholds::new("simulated", 0.5, thresholds).expect("between 0.2 and 0.8");
    GenreModel::new(GENRES.map(|genre| genre.name.to_owned()).to_vec(), mlp, thresholds, provenance)
        .expect("20 of each")
}

/// All models that were written, by version.
#[derive(Default)]
pub struct Models(BTreeMap<String, Arc<GenreModel>>);

impl Models {
    /// Adds a model, before it is written.
    pub fn add(&mut self, model: GenreModel) {
        self.0.insert(model.version().to_owned(), Arc::new(model));
    }

    /// The model of a version.
    #[must_use]
    pub fn get(&self, version: &str) -> Option<&Arc<GenreModel>> {
        self.0.get(version)
    }

    /// Returns what is wrong with a response, if anything. It must be the response of the model
    /// that it states.
    #[must_use]
    pub fn fault_in(&self, movie: &Movie, scores: bool, response: &ClassifyResponse) -> Option<String> {
        let Some(model) = self.get(&response.model_version) else {
            return Some(format!("an unknown model version {:?}", response.model_version));
        };
        let text = template().compose(&movie.title, &movie.overview);
        let expected = expected(model, &text, scores);
        let same = expected.genres == response.genres
            && expected.scores == response.scores
            && expected.truncated == response.truncated;
        let whose = || {
            let other = self.0.values().find(|other| expected_genres(other, &text) == response.genres);
            other.map_or("of no model for this text".to_owned(), |other| {
                format!("of model {} of encoder {}", other.version(), other.provenance().encoder.version)
            })
        };
        (!same).then(|| format!("a response of model {} that is {}", response.model_version, whose()))
    }
}

fn expected_genres(model: &GenreModel, text: &str) -> Vec<GenreScore> {
    expected(model, text, false).genres
}

/// The expected response, computed without any code of the services but the model's forward pass.
fn expected(model: &GenreModel, text: &str, with_scores: bool) -> ClassifyResponse {
    let vector = vector(model.provenance().encoder.fingerprint.as_str(), text);
    let probabilities = model.probabilities_of(&Array1::from_vec(vector).view(), &WordFeatures::default());
    let scores: Vec<_> = model
        .labels()
        .iter()
        .zip(&probabilities)
        .zip(model.thresholds().per_genre())
        .map(|((label, &probability), &threshold)| GenreScore {
            label: label.clone(),
            probability,
            threshold,
        })
        .collect();
    let mut genres: Vec<_> =
        scores.iter().filter(|score| score.probability > score.threshold).cloned().collect();
    genres.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    ClassifyResponse {
        genres,
        scores: if with_scores { scores } else { Vec::new() },
        model_version: model.version().to_owned(),
        truncated: tokens(text).1,
        explanation: None,
    }
}

/// A movie by number, which decides the length of its text; no two movies share a text.
#[must_use]
pub fn movie(number: u64) -> Movie {
    let words = 3 + xxh3_64(&number.to_le_bytes()) % 70;
    let overview: Vec<_> = (0..words).map(|word| format!("w{:x}", (number * 31 + word * 7) % 4096)).collect();
    Movie { title: format!("Movie {number}"), overview: format!("{}. {}.", number, overview.join(" ")) }
}
