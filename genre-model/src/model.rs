//! The model: what a fit produces and a classifier runs.

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use sha2::{Digest as _, Sha256};

use crate::file::content::Content;
use crate::file::{read, write};
use crate::{Mlp, Provenance, Thresholds, WordFeatures, WordWeights, sigmoid, write_atomically};

/// The largest accepted model file. A model is small: 1,000 hidden units take 2 MB.
const MAX_BYTES: u64 = 64 << 20;

/// A fitted model: from a movie's vector and word features to a probability for each label.
#[derive(Debug, Clone)]
pub struct GenreModel {
    content: Content,
    version: String,
}

/// Why a model file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The file cannot be read or written.
    #[error("model file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a valid model.
    #[error("model file {path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The expectation, and the value found.
        reason: String,
    },
}

impl GenreModel {
    /// Builds a model without word weights.
    ///
    /// # Errors
    /// Fails unless there is one distinct label and one threshold for each output of the network.
    pub fn new(
        labels: Vec<String>,
        mlp: Mlp,
        thresholds: Thresholds,
        provenance: Provenance,
    ) -> Result<Self, String> {
        Self::of(Content { labels, mlp, words: None, thresholds, provenance })
    }

    /// Returns the same model with `words` added.
    ///
    /// # Errors
    /// Fails unless `words` has the model's labels.
    pub fn with_words(self, words: WordWeights) -> Result<Self, String> {
        Self::of(Content { words: Some(words), ..self.content })
    }

    fn of(content: Content) -> Result<Self, String> {
        check(&content)?;
        let bytes = write::to_bytes(&content);
        if bytes.len() as u64 > MAX_BYTES {
            return Err(format!("expected a model file of at most {MAX_BYTES} bytes, found {}", bytes.len()));
        }
        Ok(Self { version: version_of(&bytes), content })
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

    /// Writes a file atomically.
    pub fn save(&self, path: &Path) -> Result<(), ModelFileError> {
        write_atomically(path, &self.to_bytes())
            .map_err(|source| ModelFileError::Io { path: path.to_owned(), source })
    }

    /// Reads and verifies the bytes of a file. The error names what was expected and what was
    /// found.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let content = read::from_bytes(bytes)?;
        check(&content)?;
        Ok(Self { content, version: version_of(bytes) })
    }

    /// Returns the bytes of the file. Equal models have equal bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        write::to_bytes(&self.content)
    }

    /// The labels, in the order of the network's outputs.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.content.labels
    }

    /// The network.
    #[must_use]
    pub fn mlp(&self) -> &Mlp {
        &self.content.mlp
    }

    /// The weights of word features, if the model has them.
    #[must_use]
    pub fn words(&self) -> Option<&WordWeights> {
        self.content.words.as_ref()
    }

    /// The thresholds that turn probabilities into genres.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.content.thresholds
    }

    /// Where the model comes from.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        &self.content.provenance
    }

    /// The first 12 hexadecimal digits of the SHA-256 of the file.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns probabilities of shape `[rows, labels]` for vectors of shape `[rows, dimension]` and
    /// the word features of the same movies.
    ///
    /// # Panics
    /// Panics if `vectors` does not have [`Mlp::dimension`] columns, or if the model has word
    /// weights and `movies` does not have one element a row.
    #[must_use]
    pub fn probabilities(&self, vectors: &ArrayView2<'_, f32>, movies: &[WordFeatures]) -> Array2<f32> {
        let mut logits = self.mlp().logits(vectors);
        if let Some(words) = self.words() {
            words.add_to(&mut logits, movies);
        }
        logits.mapv_into(sigmoid)
    }

    /// Returns a movie's word features; empty if the model has no word weights.
    #[must_use]
    pub fn word_features(&self, title: &str, overview: &str) -> WordFeatures {
        match self.words() {
            Some(_) => self.provenance().input_template.words(title, overview),
            None => WordFeatures::default(),
        }
    }

    /// Returns the probabilities of one movie, of shape `[labels]`.
    ///
    /// # Panics
    /// Panics if `vector` does not have [`Mlp::dimension`] elements.
    #[must_use]
    pub fn probabilities_of(&self, vector: &ArrayView1<'_, f32>, movie: &WordFeatures) -> Array1<f32> {
        let logits = self.mlp().logits_of(vector);
        match self.words() {
            Some(words) => logits + words.logits(movie),
            None => logits,
        }
        .mapv_into(sigmoid)
    }
}

fn check(content: &Content) -> Result<(), String> {
    let Content { labels, mlp, words, thresholds, .. } = content;
    let outputs = mlp.labels();
    if labels.len() != outputs {
        return Err(format!("expected {outputs} labels, one for each output, found {}", labels.len()));
    }
    let found = thresholds.per_genre().len();
    if found != outputs {
        return Err(format!("expected {outputs} thresholds, one for each output, found {found}"));
    }
    if let Some(words) = words.as_ref().filter(|words| words.labels() != outputs) {
        return Err(format!("expected word weights of {outputs} labels, found {}", words.labels()));
    }
    for (index, label) in labels.iter().enumerate() {
        if label.trim().is_empty() || labels[..index].contains(label) {
            return Err(format!("expected distinct, non-empty labels, found {label:?}"));
        }
    }
    Ok(())
}

fn version_of(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..6])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::tensor::{SafeTensors, TensorView};

    use super::*;
    use crate::{Activation, Dense, EncoderIdentity, Fingerprint, InputTemplate};

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
    fn reads_the_model_that_was_written() {
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
    fn reads_word_weights_and_writes_them_in_the_second_format() {
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
    fn rejects_word_weights_of_other_labels_or_another_rule() {
        let words = WordWeights::quantised(&Array2::ones((4, 3))).unwrap();
        assert!(model().with_words(words).unwrap_err().contains("word weights of 2 labels, found 3"));
        let words = WordWeights::quantised(&Array2::ones((4, 2))).unwrap();
        let bytes = model().with_words(words).unwrap().to_bytes();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let mut metadata = header.metadata().clone().unwrap();
        metadata.insert("words_rule".to_owned(), "other".to_owned());
        metadata.remove("content_sha256");
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let edited = safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap();
        assert!(GenreModel::from_bytes(&edited).unwrap_err().contains("found \"other\""));
    }

    #[test]
    fn rejects_a_new_model_that_is_larger_than_a_file_may_be() {
        let units = 4096_usize;
        let layer =
            |outputs: usize| Dense { weight: Array2::zeros((outputs, units)), bias: Array1::zeros(outputs) };
        let mlp = Mlp::new(layer(units), Activation::Relu, layer(2)).unwrap();
        let Content { labels, thresholds, provenance, .. } = model().content;
        let message = GenreModel::new(labels, mlp, thresholds, provenance).unwrap_err();
        assert!(message.contains(&format!("at most {MAX_BYTES} bytes, found 67")), "{message}");
    }

    #[test]
    fn writes_equal_models_to_equal_bytes() {
        let bytes = model().to_bytes();
        assert!((0..20).all(|_| model().to_bytes() == bytes));
    }

    #[test]
    fn rejects_a_truncated_file_and_names_it() {
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
    fn rejects_a_safetensors_file_that_is_not_a_model() {
        let bytes = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
        assert!(GenreModel::from_bytes(&bytes).unwrap_err().contains("expected metadata"));
    }

    #[test]
    fn rejects_an_edited_threshold_by_its_hash() {
        let text = model().to_bytes();
        let at = text.windows(4).position(|w| w == b"0.25").unwrap();
        let mut edited = text;
        edited[at + 2] = b'9';
        assert!(GenreModel::from_bytes(&edited).unwrap_err().contains("content_sha256"));
    }

    #[test]
    fn reads_the_committed_model() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/default.safetensors");
        assert_eq!(GenreModel::load(&path).unwrap().labels().len(), crate::GENRES.len());
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_an_error_or_changes_nothing(position in 0_usize..8192, flip in 1_u8..) {
            let intact = model();
            let mut bytes = intact.to_bytes();
            let position = position % bytes.len();
            bytes[position] ^= flip;
            // The flip may give different JSON with the same meaning; nothing else may differ.
            if let Ok(read) = GenreModel::from_bytes(&bytes) {
                prop_assert_eq!(read.mlp(), intact.mlp());
                prop_assert_eq!(read.thresholds(), intact.thresholds());
                prop_assert_ne!(read.version(), intact.version());
            }
        }
    }
}
