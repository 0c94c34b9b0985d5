//! From the content of a model file to its bytes.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;

use crate::file::content::Content;
use crate::file::format::{
    FORMAT, FORMAT_WITH_WORDS, HASH_KEY, Metadata, SELF_CHECK_KEY, ThresholdsRecord, WORDS_CHECK_KEY,
    WORDS_RULE_KEY, tensors_of,
};
use crate::file::integrity::{content_hash, self_check_of, words_check_of};
use crate::word_features;

/// A tensor's name, type, shape and bytes.
type Tensor = (&'static str, Dtype, Vec<usize>, Vec<u8>);

/// Returns the bytes of a file. Equal content gives equal bytes.
pub(crate) fn to_bytes(content: &Content) -> Vec<u8> {
    let mut metadata = metadata(content);
    let tensors = tensors(content);
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (name, view.expect("each element is written with the bytes of its type"))
    });
    let serialize = |metadata: &Metadata| {
        safetensors::serialize(views.clone(), Some(metadata.clone())).expect("names and shapes are valid")
    };
    let hash = content_hash(&metadata, tensors_of(&serialize(&metadata)));
    metadata.insert(HASH_KEY.to_owned(), hash);
    with_sorted_header(&serialize(&metadata))
}

/// The metadata without the content hash.
fn metadata(content: &Content) -> Metadata {
    let Content { labels, mlp, words, thresholds, provenance } = content;
    let thresholds = ThresholdsRecord {
        rule: thresholds.rule().to_owned(),
        global: thresholds.global(),
        per_genre: thresholds.per_genre().to_vec(),
    };
    let mut metadata: Metadata = [
        ("format", words.as_ref().map_or(FORMAT, |_| FORMAT_WITH_WORDS).to_owned()),
        ("labels", to_json(labels)),
        ("thresholds", to_json(&thresholds)),
        ("activation", mlp.activation().name().to_owned()),
        ("encoder_id", provenance.encoder.id.clone()),
        ("encoder_version", provenance.encoder.version.clone()),
        ("encoder_fingerprint", provenance.encoder.fingerprint.to_string()),
        ("input_template", provenance.input_template.to_string()),
        ("data_digest", provenance.data_digest.clone()),
        ("split_rule", provenance.split_rule.clone()),
        ("hyper_parameters", to_json(&provenance.hyper_parameters)),
        ("metrics", to_json(&provenance.metrics)),
        (SELF_CHECK_KEY, to_json(&self_check_of(mlp))),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if let Some(words) = words {
        metadata.insert(WORDS_RULE_KEY.to_owned(), word_features::RULE.to_owned());
        metadata.insert(WORDS_CHECK_KEY.to_owned(), to_json(&words_check_of(words)));
    }
    metadata
}

fn tensors(content: &Content) -> Vec<Tensor> {
    fn floats<'a>(name: &'static str, shape: &[usize], values: impl IntoIterator<Item = &'a f32>) -> Tensor {
        let bytes = values.into_iter().copied().flat_map(f32::to_le_bytes).collect();
        (name, Dtype::F32, shape.to_vec(), bytes)
    }
    let (hidden, output) = (content.mlp.hidden(), content.mlp.output());
    let mut tensors = vec![
        floats("hidden.weight", hidden.weight.shape(), &hidden.weight),
        floats("hidden.bias", hidden.bias.shape(), &hidden.bias),
        floats("output.weight", output.weight.shape(), &output.weight),
        floats("output.bias", output.bias.shape(), &output.bias),
    ];
    if let Some(words) = &content.words {
        let weight = words.weight().iter().map(|weight| weight.cast_unsigned()).collect();
        tensors.push(("words.weight", Dtype::I8, words.weight().shape().to_vec(), weight));
        tensors.push(floats("words.scale", words.scale().shape(), words.scale()));
    }
    tensors
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("maps with text keys and lists of numbers are JSON")
}

/// Rewrites the header with sorted keys, so that equal models are equal files: safetensors keeps
/// metadata in a hash map, whose order differs each time.
fn with_sorted_header(bytes: &[u8]) -> Vec<u8> {
    let (length, data) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("split at 8")) as usize;
    let (header, tensors) = data.split_at(length);
    let header: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(header).expect("the header was just written as JSON");
    let mut header = to_json(&header).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), tensors].concat()
}
