//! The model as one `.safetensors` file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::file::integrity::{
    HASH_KEY, SELF_CHECK_KEY, WORDS_CHECK_KEY, content_hash, self_check_of, verify_self_check,
    verify_words_check, words_check_of,
};
use crate::word_features;
use crate::{
    Activation, Dense, EncoderIdentity, Fingerprint, InputTemplate, Mlp, Thresholds, WordFeatures,
    WordWeights, sigmoid, write_atomically,
};

/// The metadata's `format` of a network alone.
const FORMAT: &str = "movieclassifier.genre-model/1";
/// Of a network and words: a reader that knows the first one alone must not take it for such.
const FORMAT_WITH_WORDS: &str = "movieclassifier.genre-model/2";
/// Metadata key of the rule by which a movie becomes words.
const WORDS_RULE_KEY: &str = "words_rule";
/// A model is small (1,000 hidden units are 2 MB); what is larger is some other file.
const MAX_BYTES: u64 = 64 << 20;

/// A fitted model: a movie's vector and words go in, a probability for each label comes out.
#[derive(Debug, Clone)]
pub struct GenreModel {
    labels: Vec<String>,
    mlp: Mlp,
    words: Option<WordWeights>,
    thresholds: Thresholds,
    provenance: Provenance,
    version: String,
}

/// Where a model comes from, and what its inputs must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// The encoder whose vectors it was fitted on, the only one whose vectors it may be given.
    pub encoder: EncoderIdentity,
    /// How a movie becomes the text that is encoded.
    pub input_template: InputTemplate,
    /// SHA-256 over the movies it was fitted on.
    pub data_digest: String,
    /// The rule that kept the test movies away.
    pub split_rule: String,
    /// How it was fitted.
    pub hyper_parameters: BTreeMap<String, String>,
    /// What was measured when it was fitted, such as `validation_micro_f1`.
    pub metrics: BTreeMap<String, f64>,
}

/// Why a model file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The file cannot be read or written.
    #[error("model file {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is there, but is not a sound model.
    #[error("model file {path}: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct ThresholdsRecord {
    rule: String,
    global: f32,
    per_genre: Vec<f32>,
}

impl GenreModel {
    /// Puts a model together; `labels` and `thresholds` must be as many as the network has outputs.
    pub fn new(
        labels: Vec<String>,
        mlp: Mlp,
        thresholds: Thresholds,
        provenance: Provenance,
    ) -> Result<Self, String> {
        Self { labels, mlp, words: None, thresholds, provenance, version: String::new() }.checked()
    }

    /// The same model with what words add; there must be a weight for each label.
    pub fn with_words(self, words: WordWeights) -> Result<Self, String> {
        Self { words: Some(words), ..self }.checked()
    }

    fn checked(mut self) -> Result<Self, String> {
        self.check()?;
        self.version = version_of(&self.to_bytes());
        Ok(self)
    }

    fn check(&self) -> Result<(), String> {
        let outputs = self.mlp.labels();
        if self.labels.len() != outputs {
            return Err(format!("expected {outputs} labels, one an output, found {}", self.labels.len()));
        }
        if self.thresholds.per_genre().len() != outputs {
            let found = self.thresholds.per_genre().len();
            return Err(format!("expected {outputs} thresholds, one an output, found {found}"));
        }
        if let Some(words) = self.words.as_ref().filter(|words| words.labels() != outputs) {
            return Err(format!("expected word weights of {outputs} labels, found {}", words.labels()));
        }
        for (index, label) in self.labels.iter().enumerate() {
            if label.trim().is_empty() || self.labels[..index].contains(label) {
                return Err(format!("expected distinct, non-empty labels, found {label:?}"));
            }
        }
        Ok(())
    }

    /// Reads and verifies a file.
    pub fn load(path: &Path) -> Result<Self, ModelFileError> {
        let io = |source| ModelFileError::Io { path: path.to_owned(), source };
        let invalid = |reason| ModelFileError::Invalid { path: path.to_owned(), reason };
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            return Err(invalid("expected a file, found something else".to_owned()));
        }
        if metadata.len() > MAX_BYTES {
            return Err(invalid(format!("expected at most {MAX_BYTES} bytes, found {}", metadata.len())));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        Self::from_bytes(&bytes).map_err(invalid)
    }

    /// Writes the file atomically.
    pub fn save(&self, path: &Path) -> Result<(), ModelFileError> {
        write_atomically(path, &self.to_bytes())
            .map_err(|source| ModelFileError::Io { path: path.to_owned(), source })
    }

    /// Reads the content of a file; the error says what was expected and what was found.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| format!("not a safetensors file: {error}"))?;
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|error| format!("not a safetensors file: {error}"))?;
        let metadata = header.metadata().as_ref().ok_or("expected metadata, found none")?;
        verify_hash(metadata, tensors_of(bytes))?;
        let text =
            |key: &str| metadata.get(key).ok_or_else(|| format!("expected metadata {key:?}, found none"));
        let format = text("format")?;
        if ![FORMAT, FORMAT_WITH_WORDS].contains(&format.as_str()) {
            return Err(format!("expected format {FORMAT:?} or {FORMAT_WITH_WORDS:?}, found {format:?}"));
        }

        let activation = text("activation")?;
        let activation =
            Activation::from_name(activation).ok_or_else(|| format!("unknown activation {activation:?}"))?;
        let mlp = Mlp::new(dense(&tensors, "hidden")?, activation, dense(&tensors, "output")?)
            .map_err(|error| error.to_string())?;
        // Files written before there was a self-check have none.
        if metadata.contains_key(SELF_CHECK_KEY) {
            verify_self_check(&mlp, &json::<Vec<f32>>(metadata, SELF_CHECK_KEY)?)?;
        }
        let words = if format == FORMAT_WITH_WORDS { Some(word_weights(&tensors, metadata)?) } else { None };
        let record: ThresholdsRecord = json(metadata, "thresholds")?;
        let thresholds = Thresholds::new(record.rule, record.global, record.per_genre)
            .map_err(|error| error.to_string())?;
        let provenance = Provenance {
            encoder: EncoderIdentity {
                id: text("encoder_id")?.clone(),
                version: text("encoder_version")?.clone(),
                fingerprint: Fingerprint::parse(text("encoder_fingerprint")?)
                    .map_err(|error| error.to_string())?,
            },
            input_template: InputTemplate::parse(text("input_template")?)
                .map_err(|error| error.to_string())?,
            data_digest: text("data_digest")?.clone(),
            split_rule: text("split_rule")?.clone(),
            hyper_parameters: json(metadata, "hyper_parameters")?,
            metrics: figures(metadata, "metrics")?,
        };
        let labels = json(metadata, "labels")?;
        let model = Self { labels, mlp, words, thresholds, provenance, version: version_of(bytes) };
        model.check()?;
        Ok(model)
    }

    /// The content of the file: the same model always gives the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let provenance = &self.provenance;
        let thresholds = ThresholdsRecord {
            rule: self.thresholds.rule().to_owned(),
            global: self.thresholds.global(),
            per_genre: self.thresholds.per_genre().to_vec(),
        };
        let mut metadata: HashMap<String, String> = [
            ("format", self.words.as_ref().map_or(FORMAT, |_| FORMAT_WITH_WORDS).to_owned()),
            ("labels", to_json(&self.labels)),
            ("thresholds", to_json(&thresholds)),
            ("activation", self.mlp.activation().name().to_owned()),
            ("encoder_id", provenance.encoder.id.clone()),
            ("encoder_version", provenance.encoder.version.clone()),
            ("encoder_fingerprint", provenance.encoder.fingerprint.to_string()),
            ("input_template", provenance.input_template.to_string()),
            ("data_digest", provenance.data_digest.clone()),
            ("split_rule", provenance.split_rule.clone()),
            ("hyper_parameters", to_json(&provenance.hyper_parameters)),
            ("metrics", to_json(&provenance.metrics)),
            (SELF_CHECK_KEY, to_json(&self_check_of(&self.mlp))),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if let Some(words) = &self.words {
            metadata.insert(WORDS_RULE_KEY.to_owned(), word_features::RULE.to_owned());
            metadata.insert(WORDS_CHECK_KEY.to_owned(), to_json(&words_check_of(words)));
        }
        let layers = [("hidden", self.mlp.hidden()), ("output", self.mlp.output())];
        let network = layers.into_iter().flat_map(|(name, layer)| {
            [
                (
                    format!("{name}.weight"),
                    Dtype::F32,
                    layer.weight.shape().to_vec(),
                    bytes_of(&layer.weight),
                ),
                (format!("{name}.bias"), Dtype::F32, layer.bias.shape().to_vec(), bytes_of(&layer.bias)),
            ]
        });
        let words = self.words.iter().flat_map(|words| {
            let weight: Vec<u8> = words.weight().iter().map(|weight| weight.cast_unsigned()).collect();
            let scale = bytes_of(words.scale());
            [
                ("words.weight".to_owned(), Dtype::I8, words.weight().shape().to_vec(), weight),
                ("words.scale".to_owned(), Dtype::F32, words.scale().shape().to_vec(), scale),
            ]
        });
        let data: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = network.chain(words).collect();
        let views = data.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            (name, view.expect("as many bytes were written as the elements have"))
        });
        let serialize = |metadata: &HashMap<String, String>| {
            safetensors::serialize(views.clone(), Some(metadata.clone())).expect("names and shapes are sound")
        };
        let hash = hash_of(&metadata, tensors_of(&serialize(&metadata)));
        metadata.insert(HASH_KEY.to_owned(), hash);
        with_sorted_header(&serialize(&metadata))
    }

    /// The labels, in the order of the network's outputs.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The network.
    #[must_use]
    pub fn mlp(&self) -> &Mlp {
        &self.mlp
    }

    /// What a movie's words add, where the model has that.
    #[must_use]
    pub fn words(&self) -> Option<&WordWeights> {
        self.words.as_ref()
    }

    /// Probabilities of shape `[rows, labels]` for vectors of shape `[rows, dimension]` and the words of the same movies.
    ///
    /// # Panics
    /// If vectors are of another dimension than the network's, or there are other words than one a vector and the model has words.
    #[must_use]
    pub fn probabilities(&self, vectors: &ArrayView2<'_, f32>, movies: &[WordFeatures]) -> Array2<f32> {
        let mut logits = self.mlp.logits(vectors);
        if let Some(words) = &self.words {
            words.add_to(&mut logits, movies);
        }
        logits.mapv_into(sigmoid)
    }

    /// The same for one movie, of shape `[labels]`.
    ///
    /// # Panics
    /// If the vector is of another dimension than the network's.
    #[must_use]
    pub fn probabilities_of(&self, vector: &ArrayView1<'_, f32>, movie: &WordFeatures) -> Array1<f32> {
        let logits = self.mlp.logits_of(vector);
        match &self.words {
            Some(words) => logits + words.logits(movie),
            None => logits,
        }
        .mapv_into(sigmoid)
    }

    /// What turns its probabilities into genres.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// Where it comes from.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The first 12 hexadecimal digits of the SHA-256 of its file: another content is another version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// What stands behind the header of a safetensors file that has been parsed.
fn tensors_of(bytes: &[u8]) -> &[u8] {
    let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length) as usize);
    bytes.get(length.saturating_add(8)..).unwrap_or_default()
}

fn hash_of(metadata: &HashMap<String, String>, tensors: &[u8]) -> String {
    content_hash(&metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(), tensors)
}

/// Files written before there was a content hash have none.
fn verify_hash(metadata: &HashMap<String, String>, tensors: &[u8]) -> Result<(), String> {
    let Some(expected) = metadata.get(HASH_KEY) else { return Ok(()) };
    let found = hash_of(metadata, tensors);
    if *expected == found {
        return Ok(());
    }
    Err(format!("{HASH_KEY}: expected {expected}, found {found}: the file was damaged or edited"))
}

fn version_of(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..6])
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("maps with text keys and lists of numbers are JSON")
}

fn json<T: serde::de::DeserializeOwned>(metadata: &HashMap<String, String>, key: &str) -> Result<T, String> {
    let text = metadata.get(key).ok_or_else(|| format!("expected metadata {key:?}, found none"))?;
    serde_json::from_str(text).map_err(|error| format!("metadata {key:?}: {error}"))
}

/// Numbers, exactly: `serde_json`'s own reading may be a step off, and what is read would be written as another file.
fn figures(metadata: &HashMap<String, String>, key: &str) -> Result<BTreeMap<String, f64>, String> {
    let written: BTreeMap<String, Box<RawValue>> = json(metadata, key)?;
    let exact = |(name, number): (String, Box<RawValue>)| match number.get().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((name, value)),
        _ => Err(format!("metadata {key:?}: {name}: expected a finite number, found {number}")),
    };
    written.into_iter().map(exact).collect()
}

fn bytes_of<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u8> {
    values.into_iter().copied().flat_map(f32::to_le_bytes).collect()
}

fn word_weights(
    tensors: &SafeTensors<'_>,
    metadata: &HashMap<String, String>,
) -> Result<WordWeights, String> {
    let rule = metadata.get(WORDS_RULE_KEY).map_or("", String::as_str);
    if rule != word_features::RULE {
        return Err(format!(
            "metadata {WORDS_RULE_KEY:?}: expected {:?}, found {rule:?}",
            word_features::RULE
        ));
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

/// safetensors keeps metadata in a hash map, whose order is another one each time. The header is rewritten with
/// sorted keys, so that equal models are equal files.
fn with_sorted_header(bytes: &[u8]) -> Vec<u8> {
    let (length, data) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("split at 8")) as usize;
    let (header, tensors) = data.split_at(length);
    let header: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(header).expect("it was written as JSON");
    let mut header = to_json(&header).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), tensors].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model() -> GenreModel {
        let hidden = Dense {
            weight: Array2::from_shape_fn((3, 4), |(i, j)| i as f32 - j as f32),
            bias: Array1::from_elem(3, 0.25),
        };
        let output =
            Dense { weight: Array2::from_shape_fn((2, 3), |(i, j)| (i * j) as f32), bias: Array1::zeros(2) };
        let provenance = Provenance {
            encoder: EncoderIdentity {
                id: "tiny-4".to_owned(),
                version: "1".to_owned(),
                fingerprint: Fingerprint::parse("ab".repeat(32)).unwrap(),
            },
            input_template: InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap(),
            data_digest: "00".to_owned(),
            split_rule: crate::SPLIT_RULE.to_owned(),
            hyper_parameters: (0..9).map(|i| (format!("parameter {i}"), i.to_string())).collect(),
            metrics: [("validation_micro_f1".to_owned(), 0.1 + 0.2)].into(),
        };
        GenreModel::new(
            vec!["Drama".to_owned(), "War".to_owned()],
            Mlp::new(hidden, Activation::Gelu, output).unwrap(),
            Thresholds::new("per genre", 0.3, vec![0.25, 0.4]).unwrap(),
            provenance,
        )
        .unwrap()
    }

    #[test]
    fn a_model_survives_its_file_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let written = model();
        written.save(&path).unwrap();
        let read = GenreModel::load(&path).unwrap();
        assert_eq!(read.mlp(), written.mlp());
        assert_eq!(read.labels(), written.labels());
        assert_eq!(read.thresholds(), written.thresholds());
        assert_eq!(read.provenance(), written.provenance());
        assert_eq!(read.version(), written.version());
    }

    #[test]
    fn a_model_with_words_survives_its_file_and_is_another_format() {
        let weights =
            Array2::from_shape_fn((64, 2), |(bucket, label)| (bucket * (label + 1)) as f32 * 0.01 - 0.3);
        let written = model().with_words(WordWeights::quantised(&weights).unwrap()).unwrap();
        let bytes = written.to_bytes();
        assert!(bytes.windows(13).any(|window| window == b"genre-model/2"));
        let read = GenreModel::from_bytes(&bytes).unwrap();
        assert_eq!(read.words(), written.words());
        assert_eq!((read.to_bytes(), read.version()), (bytes, written.version()));
        assert_ne!(read.version(), model().version());
        let movie = WordFeatures::of("Storm", "a ship");
        let vector = Array1::from_elem(4, 0.5);
        let alone = read.probabilities_of(&vector.view(), &movie);
        let among =
            read.probabilities(&vector.view().insert_axis(ndarray::Axis(0)), std::slice::from_ref(&movie));
        assert_eq!(alone, among.row(0));
        assert_ne!(alone, model().probabilities_of(&vector.view(), &movie));
    }

    #[test]
    fn words_of_other_labels_or_another_rule_are_refused() {
        let words = WordWeights::quantised(&Array2::ones((4, 3))).unwrap();
        assert!(model().with_words(words).unwrap_err().contains("word weights of 2 labels, found 3"));
        let words = WordWeights::quantised(&Array2::ones((4, 2))).unwrap();
        let bytes = model().with_words(words).unwrap().to_bytes();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let mut metadata = header.metadata().clone().unwrap();
        metadata.insert(WORDS_RULE_KEY.to_owned(), "other".to_owned());
        metadata.remove(HASH_KEY);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let edited = safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap();
        assert!(GenreModel::from_bytes(&edited).unwrap_err().contains("found \"other\""));
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let texts =
            ["1.30000000000000010", "0.30000000000000004", "5e-324", "1.7976931348623157e308", "-0.0", "7"];
        for text in texts {
            let metadata = [("metrics".to_owned(), format!(r#"{{"a": {text}}}"#))].into();
            let read = figures(&metadata, "metrics").unwrap()["a"];
            assert_eq!(read.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
        for text in ["1e999", "null", r#""1""#, "[1]", "NaN"] {
            let metadata = [("metrics".to_owned(), format!(r#"{{"a": {text}}}"#))].into();
            assert!(figures(&metadata, "metrics").unwrap_err().contains("metadata \"metrics\""), "{text}");
        }
    }

    #[test]
    fn equal_models_are_equal_files() {
        let bytes = model().to_bytes();
        assert!((0..20).all(|_| model().to_bytes() == bytes));
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.safetensors");
        let bytes = model().to_bytes();
        for length in [0, 7, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let message = GenreModel::load(&path).unwrap_err().to_string();
            assert!(message.contains("cut.safetensors"), "{message}");
        }
    }

    #[test]
    fn another_safetensors_file_is_not_a_model() {
        let bytes = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
        assert!(GenreModel::from_bytes(&bytes).unwrap_err().contains("expected metadata"));
    }

    #[test]
    fn an_edited_threshold_is_noticed_by_the_hash() {
        let text = model().to_bytes();
        let at = text.windows(4).position(|w| w == b"0.25").unwrap();
        let mut edited = text;
        edited[at + 2] = b'9';
        assert!(GenreModel::from_bytes(&edited).unwrap_err().contains("content_sha256"));
    }

    #[test]
    fn the_committed_model_is_read_whether_it_has_a_hash_or_not() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/default.safetensors");
        assert_eq!(GenreModel::load(&path).unwrap().labels().len(), crate::GENRES.len());
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_an_error_or_padding(position in 0_usize..8192, flip in 1_u8..) {
            let intact = model();
            let mut bytes = intact.to_bytes();
            let position = position % bytes.len();
            bytes[position] ^= flip;
            // The header's own JSON may be written in another way that means the same; nothing else may differ.
            if let Ok(read) = GenreModel::from_bytes(&bytes) {
                prop_assert_eq!(read.mlp(), intact.mlp());
                prop_assert_eq!(read.thresholds(), intact.thresholds());
                prop_assert_ne!(read.version(), intact.version());
            }
        }
    }
}
