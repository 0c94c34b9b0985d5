//! From the bytes of a model file to its content.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::value::RawValue;

use crate::file::content::Content;
use crate::file::format::{
    FORMAT, FORMAT_WITH_WORDS, HASH_KEY, Metadata, SELF_CHECK_KEY, ThresholdsRecord, WORDS_CHECK_KEY,
    WORDS_RULE_KEY, tensors_of,
};
use crate::file::integrity::{content_hash, verify_self_check, verify_words_check};
use crate::word_features;
use crate::{
    Activation, Dense, EncoderIdentity, Fingerprint, InputTemplate, Mlp, Provenance, Thresholds, WordWeights,
};

/// Reads and verifies a file. The error names what was expected and what was found.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Content, String> {
    let not_safetensors = |error| format!("not a safetensors file: {error}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
    let metadata = header.metadata().as_ref().ok_or("expected metadata, found none")?;
    verify_hash(metadata, tensors_of(bytes))?;
    let text = |key| text(metadata, key);
    let format = text("format")?;
    if ![FORMAT, FORMAT_WITH_WORDS].contains(&format) {
        return Err(format!("expected format {FORMAT:?} or {FORMAT_WITH_WORDS:?}, found {format:?}"));
    }

    let activation = text("activation")?;
    let activation =
        Activation::from_name(activation).ok_or_else(|| format!("unknown activation {activation:?}"))?;
    let mlp = Mlp::new(dense(&tensors, "hidden")?, activation, dense(&tensors, "output")?)
        .map_err(|error| error.to_string())?;
    // The first model files have no self-check.
    if metadata.contains_key(SELF_CHECK_KEY) {
        verify_self_check(&mlp, &json::<Vec<f32>>(metadata, SELF_CHECK_KEY)?)?;
    }
    let words = if format == FORMAT_WITH_WORDS { Some(word_weights(&tensors, metadata)?) } else { None };
    let record: ThresholdsRecord = json(metadata, "thresholds")?;
    let thresholds =
        Thresholds::new(record.rule, record.global, record.per_genre).map_err(|error| error.to_string())?;
    let encoder = EncoderIdentity {
        id: text("encoder_id")?.to_owned(),
        version: text("encoder_version")?.to_owned(),
        fingerprint: Fingerprint::parse(text("encoder_fingerprint")?).map_err(|error| error.to_string())?,
    };
    let provenance = Provenance {
        encoder,
        input_template: InputTemplate::parse(text("input_template")?).map_err(|error| error.to_string())?,
        data_digest: text("data_digest")?.to_owned(),
        split_rule: text("split_rule")?.to_owned(),
        hyper_parameters: json(metadata, "hyper_parameters")?,
        metrics: numbers(metadata, "metrics")?,
    };
    Ok(Content { labels: json(metadata, "labels")?, mlp, words, thresholds, provenance })
}

/// Compares the content hash. The first model files have none.
fn verify_hash(metadata: &Metadata, tensors: &[u8]) -> Result<(), String> {
    let Some(expected) = metadata.get(HASH_KEY) else { return Ok(()) };
    let found = content_hash(metadata, tensors);
    if *expected == found {
        return Ok(());
    }
    Err(format!("{HASH_KEY}: expected {expected}, found {found}: the file is damaged or edited"))
}

fn text<'a>(metadata: &'a Metadata, key: &str) -> Result<&'a str, String> {
    metadata.get(key).map(String::as_str).ok_or_else(|| format!("expected metadata {key:?}, found none"))
}

fn json<T: serde::de::DeserializeOwned>(metadata: &Metadata, key: &str) -> Result<T, String> {
    serde_json::from_str(text(metadata, key)?).map_err(|error| format!("metadata {key:?}: {error}"))
}

/// Reads numbers exactly. `serde_json` may round to a neighbouring number, and writing the model
/// again would then change its bytes.
fn numbers(metadata: &Metadata, key: &str) -> Result<BTreeMap<String, f64>, String> {
    let written: BTreeMap<String, Box<RawValue>> = json(metadata, key)?;
    let exact = |(name, number): (String, Box<RawValue>)| match number.get().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((name, value)),
        _ => Err(format!("metadata {key:?}: {name}: expected a finite number, found {number}")),
    };
    written.into_iter().map(exact).collect()
}

fn word_weights(tensors: &SafeTensors<'_>, metadata: &Metadata) -> Result<WordWeights, String> {
    let rule = metadata.get(WORDS_RULE_KEY).map_or("", String::as_str);
    if rule != word_features::RULE {
        let expected = word_features::RULE;
        return Err(format!("metadata {WORDS_RULE_KEY:?}: expected {expected:?}, found {rule:?}"));
    }
    let tensor = tensors.tensor("words.weight").map_err(|error| error.to_string())?;
    let (Dtype::I8, &[buckets, labels]) = (tensor.dtype(), tensor.shape()) else {
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        return Err(format!("words.weight: expected I8 of 2 dimensions, found {dtype:?} of {shape:?}"));
    };
    let weight = tensor.data().iter().map(|byte| byte.cast_signed()).collect();
    let weight = Array2::from_shape_vec((buckets, labels), weight).map_err(|error| error.to_string())?;
    let (_, scale) = floats(tensors, "words.scale")?;
    let words = WordWeights::new(weight, scale.into()).map_err(|error| error.to_string())?;
    verify_words_check(&words, &json::<Vec<f32>>(metadata, WORDS_CHECK_KEY)?)?;
    Ok(words)
}

fn dense(tensors: &SafeTensors<'_>, layer: &str) -> Result<Dense, String> {
    let (weight_shape, weight) = floats(tensors, &format!("{layer}.weight"))?;
    let [outputs, inputs] = weight_shape[..] else {
        return Err(format!("{layer}.weight: expected 2 dimensions, found {}", weight_shape.len()));
    };
    let (_, bias) = floats(tensors, &format!("{layer}.bias"))?;
    let weight = Array2::from_shape_vec((outputs, inputs), weight).map_err(|error| error.to_string())?;
    Ok(Dense { weight, bias: Array1::from_vec(bias) })
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f32>), String> {
    let tensor = tensors.tensor(name).map_err(|error| error.to_string())?;
    if tensor.dtype() != Dtype::F32 {
        return Err(format!("{name}: expected F32, found {:?}", tensor.dtype()));
    }
    let values =
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok((tensor.shape().to_vec(), values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_they_were_written() {
        let texts =
            ["1.30000000000000010", "0.30000000000000004", "5e-324", "1.7976931348623157e308", "-0.0", "7"];
        for text in texts {
            let metadata = [("metrics".to_owned(), format!(r#"{{"a": {text}}}"#))].into();
            let read = numbers(&metadata, "metrics").unwrap()["a"];
            assert_eq!(read.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
        for text in ["1e999", "null", r#""1""#, "[1]", "NaN"] {
            let metadata = [("metrics".to_owned(), format!(r#"{{"a": {text}}}"#))].into();
            assert!(numbers(&metadata, "metrics").unwrap_err().contains("metadata \"metrics\""), "{text}");
        }
    }
}
