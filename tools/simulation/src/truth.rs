//! What is right: the one vector of each text, the models that were ever written, and the answer that a movie must get.

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
/// Longer texts are cut, as the real encoders do.
pub const MAX_TOKENS: usize = 64;
const HIDDEN: usize = 6;

/// The fingerprint of encoder generation `generation`.
#[must_use]
pub fn fingerprint(generation: u32) -> String {
    format!("{:016x}", xxh3_64(&generation.to_le_bytes())).repeat(4)
}

/// A number from -1 to 1 that is a function of its arguments.
fn number(bytes: &[u8], seed: u64) -> f32 {
    let bits = (xxh3_64_with_seed(bytes, seed) >> 40) as f32;
    bits / (1 << 23) as f32 - 1.0
}

/// Tokens of a text, and whether it is cut.
#[must_use]
pub fn tokens(text: &str) -> (usize, bool) {
    let words = text.split_whitespace().count() + 2;
    (words.min(MAX_TOKENS), words > MAX_TOKENS)
}

/// The vector of a text by the encoder of that fingerprint.
#[must_use]
pub fn vector(fingerprint: &str, text: &str) -> Vec<f32> {
    let seed = xxh3_64(fingerprint.as_bytes());
    (0..DIMENSION as u64).map(|place| number(text.as_bytes(), seed.wrapping_add(place))).collect()
}

/// What the text takes one session.
#[must_use]
pub fn cost(text: &str) -> Duration {
    let chance = xxh3_64(text.as_bytes()) % 4;
    Duration::from_millis(3 + tokens(text).0 as u64 / 3 + chance)
}

/// How movies become texts.
#[must_use]
pub fn template() -> InputTemplate {
    InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).expect("a constant of the crate")
}

/// Model `number` of the encoders of a generation: any two of them give other genres.
#[must_use]
pub fn model(generation: u32, number_of_model: u64) -> GenreModel {
    let seed = xxh3_64(&[u64::from(generation), number_of_model].map(u64::to_le_bytes).concat());
    let weight = |layer: u8, (row, column): (usize, usize)| {
        number(&[&[layer], &row.to_le_bytes()[..], &column.to_le_bytes()[..]].concat(), seed)
    };
    let dense = |layer: u8, outputs: usize, inputs: usize| Dense {
        weight: Array2::from_shape_fn((outputs, inputs), |place| weight(layer, place)),
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

/// Every model that the classifier may have been given, by version.
#[derive(Default)]
pub struct Models(BTreeMap<String, Arc<GenreModel>>);

impl Models {
    /// A model is about to be written.
    pub fn add(&mut self, model: GenreModel) {
        self.0.insert(model.version().to_owned(), Arc::new(model));
    }

    /// The model of that version.
    #[must_use]
    pub fn get(&self, version: &str) -> Option<&Arc<GenreModel>> {
        self.0.get(version)
    }

    /// What is wrong with an answer, if anything is: it must be the one that the model of its own version gives for this
    /// movie.
    #[must_use]
    pub fn fault_in(&self, movie: &Movie, scores: bool, answer: &ClassifyResponse) -> Option<String> {
        let Some(model) = self.get(&answer.model_version) else {
            return Some(format!("an unknown model version {:?}", answer.model_version));
        };
        let text = template().compose(&movie.title, &movie.overview);
        let expected = expected(model, &text, scores);
        let same = expected.genres == answer.genres
            && expected.scores == answer.scores
            && expected.truncated == answer.truncated;
        let whose = || {
            let other = self.0.values().find(|other| expected_genres(other, &text) == answer.genres);
            other.map_or("of no model for this text".to_owned(), |other| {
                format!("of model {} of encoder {}", other.version(), other.provenance().encoder.version)
            })
        };
        (!same).then(|| format!("an answer of model {} that is {}", answer.model_version, whose()))
    }
}

fn expected_genres(model: &GenreModel, text: &str) -> Vec<GenreScore> {
    expected(model, text, false).genres
}

/// The answer, computed without any of the services' code but the model's own forward pass.
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

/// A movie that nobody has seen: `number` decides its length, and every movie is another text.
#[must_use]
pub fn movie(number: u64) -> Movie {
    let words = 3 + xxh3_64(&number.to_le_bytes()) % 70;
    let overview: Vec<_> = (0..words).map(|word| format!("w{:x}", (number * 31 + word * 7) % 4096)).collect();
    Movie { title: format!("Movie {number}"), overview: format!("{}. {}.", number, overview.join(" ")) }
}
