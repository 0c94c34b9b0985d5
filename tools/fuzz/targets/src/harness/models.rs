//! Genre models with fixed weights.

use genre_model::{
    Activation, Dense, EncoderIdentity, Fingerprint, GENRES, GenreModel, InputTemplate, Mlp, Provenance,
    SPLIT_RULE, Thresholds,
};
use ndarray::{Array1, Array2};
use sha2::{Digest as _, Sha256};

use super::inputs::repository;

/// Returns a model for the encoder bundle in `folder` of the repository.
pub(crate) fn model_for(folder: &str, dimension: usize) -> GenreModel {
    let manifest = std::fs::read(repository(folder).join("encoder.json")).expect("the bundle exists");
    let hidden = Dense {
        weight: Array2::from_shape_fn((4, dimension), |(i, j)| ((i * 31 + j * 17) % 13) as f32 / 6.0 - 1.0),
        bias: Array1::from_elem(4, 0.25),
    };
    let labels = GENRES.map(|genre| genre.name.to_owned()).to_vec();
    model(hidden, Activation::Gelu, labels, &hex::encode(Sha256::digest(manifest)))
}

/// Returns a model with the given hidden layer and fixed weights in its output layer.
pub(crate) fn model(
    hidden: Dense,
    activation: Activation,
    labels: Vec<String>,
    fingerprint: &str,
) -> GenreModel {
    let output = Dense {
        weight: Array2::from_shape_fn((labels.len(), hidden.bias.len()), |(i, j)| {
            ((i * 7 + j * 5) % 11) as f32 / 5.0 - 1.0
        }),
        bias: Array1::zeros(labels.len()),
    };
    let thresholds = Thresholds::uniform("fixed", 0.5, labels.len()).expect("0.5 is a probability");
    let provenance = Provenance {
        encoder: tiny_encoder(fingerprint),
        input_template: InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW)
            .expect("the template is valid"),
        data_digest: "00".to_owned(),
        split_rule: SPLIT_RULE.to_owned(),
        hyper_parameters: [("units".to_owned(), hidden.bias.len().to_string())].into(),
        metrics: [("validation_micro_f1".to_owned(), 0.1 + 0.2)].into(),
    };
    let mlp = Mlp::new(hidden, activation, output).expect("the layers fit");
    GenreModel::new(labels, mlp, thresholds, provenance).expect("labels, layers and thresholds fit")
}

/// Returns the identity of an encoder with the given fingerprint.
pub(crate) fn tiny_encoder(fingerprint: &str) -> EncoderIdentity {
    EncoderIdentity {
        id: "tiny".to_owned(),
        version: "1".to_owned(),
        fingerprint: Fingerprint::parse(fingerprint).expect("64 hexadecimal digits"),
    }
}
