//! `.safetensors` model files.

use std::collections::BTreeMap;

use genre_model::{Activation, Dense, GenreModel, InputTemplate, WordFeatures, WordWeights};
use ndarray::{Array1, Array2};
use sha2::{Digest as _, Sha256};

use crate::harness::allocation::bounded;
use crate::harness::inputs::file;
use crate::harness::models::model;
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "model_file",
    check,
    seeds,
    dictionary: &[
        "\"hidden.weight\"",
        "\"output.bias\"",
        "\"dtype\":\"F32\"",
        "\"shape\":[",
        "\"data_offsets\":[0,0]",
        "\"__metadata__\"",
        "[{title}. ]{overview}",
        "{overview}",
        "sigmoid",
        "relu",
        "gelu",
        "\u{7f}\u{7f}",
        "1e38",
        "null",
        "18446744073709551615",
        "0",
    ],
    max_len: 4096,
    cases: 40000,
};

fn check(data: &[u8]) {
    let model = match bounded(data.len(), || GenreModel::from_bytes(data)) {
        Ok(model) => model,
        Err(reason) => {
            assert_explains(&reason);
            // Loading by path rejects it too, and names the file. The reason may differ: with
            // several invalid tensors, safetensors names any of them.
            let path = file("model.safetensors", data);
            let message = GenreModel::load(&path)
                .expect_err("loading a file rejects what loading bytes rejects")
                .to_string();
            assert!(message.contains("model.safetensors"), "{message}");
            assert_explains(&message);
            return;
        }
    };
    assert_eq!(
        model.version(),
        &hex::encode(Sha256::digest(data))[..12],
        "the version is a prefix of the hash of the file"
    );
    let mlp = model.mlp();
    let layers = [mlp.hidden(), mlp.output()];
    assert!(
        layers.iter().all(|layer| layer.weight.iter().chain(&layer.bias).all(|weight| weight.is_finite()))
    );
    assert_eq!((model.labels().len(), model.thresholds().per_genre().len()), (mlp.labels(), mlp.labels()));
    assert_gives_probabilities(&model);
    assert_composes(&model.provenance().input_template);

    // A model that was read can be written and read again without a difference.
    let written = model.to_bytes();
    let again = GenreModel::from_bytes(&written).expect("a written model can be read");
    assert_eq!((again.mlp(), again.words()), (mlp, model.words()));
    assert_eq!(again.labels(), model.labels());
    assert_eq!(again.thresholds(), model.thresholds());
    assert_eq!(again.provenance(), model.provenance());
    assert_eq!(again.to_bytes(), written, "equal models have equal files");
    let parts =
        (model.labels().to_vec(), mlp.clone(), model.thresholds().clone(), model.provenance().clone());
    let mut rebuilt =
        GenreModel::new(parts.0, parts.1, parts.2, parts.3).expect("the parts of a valid model are valid");
    if let Some(words) = model.words() {
        rebuilt = rebuilt.with_words(words.clone()).expect("the parts of a valid model are valid");
    }
    assert_eq!(rebuilt.version(), again.version());
}

/// Asserts that every vector of about unit length, as encoders return it, gives a probability for
/// each label.
fn assert_gives_probabilities(model: &GenreModel) {
    let dimension = model.mlp().dimension();
    let unit = (dimension as f32).sqrt().recip();
    let vectors: [&dyn Fn(usize) -> f32; 4] =
        [&|_| 0.0, &|_| unit, &|i| if i % 2 == 0 { unit } else { -unit }, &|i| f32::from(u8::from(i == 0))];
    for vector in vectors {
        let vector = Array1::from_shape_fn(dimension, vector);
        for movie in [WordFeatures::default(), WordFeatures::of("A title", "of a movie that has an overview")]
        {
            let probabilities = model.probabilities_of(&vector.view(), &movie);
            assert_eq!(probabilities.len(), model.labels().len());
            assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)), "{probabilities}");
        }
    }
}

/// Asserts that the text to encode contains the overview, whatever the template.
fn assert_composes(template: &InputTemplate) {
    assert_eq!(InputTemplate::parse(&template.to_string()).as_ref(), Ok(template));
    for title in ["", "A title"] {
        assert!(template.compose(title, "An {overview} [of] its own").contains("An {overview} [of] its own"));
    }
}

fn assert_explains(reason: &str) {
    let is_known = [
        "expected",
        "not a safetensors file",
        "unknown activation",
        "metadata",
        "template",
        "Tensor",
        "tensor",
    ]
    .iter()
    .any(|word| reason.contains(word));
    assert!(is_known, "an error says what was expected: {reason}");
}

/// Removes the hash and the self-check from a file, like files of earlier versions: mutations of it
/// get further.
fn without_checks(bytes: &[u8]) -> Vec<u8> {
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize;
    let (header, tensors) = rest.split_at(length);
    let mut header: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(header).expect("the header is JSON");
    if let Some(metadata) = header.get_mut("__metadata__") {
        metadata.remove("content_sha256");
        metadata.remove("self_check");
    }
    let mut header = serde_json::to_vec(&header).expect("the header was JSON");
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), tensors].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let labels = |count: usize| (0..count).map(|i| format!("genre {i}")).collect::<Vec<_>>();
    let dense = |units: usize, inputs: usize, value: f32| Dense {
        weight: Array2::from_elem((units, inputs), value),
        bias: Array1::zeros(units),
    };
    let valid = [
        model(dense(2, 3, 0.5), Activation::Relu, labels(2), &"ab".repeat(32)),
        model(dense(1, 1, -2.0), Activation::Sigmoid, labels(1), &"cd".repeat(32)),
        model(dense(3, 2, 1.5), Activation::Gelu, labels(3), &"01".repeat(32)),
    ];
    let weights =
        Array2::from_shape_fn((16, 2), |(bucket, label)| (bucket * (label + 1)) as f32 * 0.01 - 0.1);
    let words = WordWeights::quantised(&weights).expect("the weights are finite");
    let with_words = valid[0].clone().with_words(words).expect("the labels match");
    let files = valid.into_iter().chain([with_words]).map(|model| model.to_bytes()).collect::<Vec<_>>();
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| without_checks(file)).collect();
    seeds.extend(files);
    seeds.push(b"\x08\0\0\0\0\0\0\0{}      ".to_vec());
    seeds
}
