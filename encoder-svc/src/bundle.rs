//! The encoder bundle: a folder with everything that turns a text into a vector, pinned by hashes.
//!
//! `encoder.json`, the manifest, names the files and their SHA-256. The fingerprint is the SHA-256
//! of the manifest, and so covers all files. No file is used before its hash is verified.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "encoder.json";
const FORMAT: u32 = 1;
/// The largest accepted manifest. A manifest is a page of text, so a larger file is not one.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// A verified bundle.
#[derive(Debug)]
pub struct Bundle {
    /// The contents of `encoder.json`.
    pub manifest: Manifest,
    /// The SHA-256 of `encoder.json`, 64 hexadecimal digits.
    pub fingerprint: String,
    folder: PathBuf,
}

/// The identity of an encoder, and the shape of its vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The encoder's name, such as `minilm-512`.
    pub id: String,
    /// The encoder's version.
    pub version: String,
    /// The bundle's fingerprint, 64 hexadecimal digits.
    pub fingerprint: String,
    /// The number of floats in a vector.
    pub dimension: usize,
    /// The most tokens of a text that the encoder reads, special tokens included.
    pub max_tokens: usize,
}

/// The contents of `encoder.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// The encoder's name, such as `minilm-512`.
    pub id: String,
    /// The encoder's version.
    pub version: String,
    /// A description in one line.
    pub description: String,
    /// The SPDX identifier of the licence.
    pub licence: String,
    /// The number of floats in a vector.
    pub dimension: usize,
    /// The most tokens of a text that the encoder reads, special tokens included.
    pub max_tokens: usize,
    /// The file of the graph.
    pub model: String,
    /// The tokenizer.
    pub tokenizer: TokenizerEntry,
    /// The texts of the self-check.
    pub reference: ReferenceEntry,
    /// The names of the graph's inputs.
    pub inputs: Inputs,
    /// The name of the graph's output.
    pub output: String,
    /// The SHA-256 of each file.
    files: BTreeMap<String, String>,
}

/// The kind of the tokenizer, and its file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerEntry {
    /// The kind, which says how to read the file.
    pub kind: TokenizerKind,
    /// The file.
    pub file: String,
}

/// The kinds of tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// BERT's WordPiece, as a `tokenizer.json` of Hugging Face.
    WordPiece,
    /// Rules, a vocabulary and hash buckets that were read from a TensorFlow graph.
    Vocabulary,
}

/// The texts of the self-check.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceEntry {
    /// The file.
    pub file: String,
    /// For graphs in single precision: the largest accepted difference of an element.
    tolerance: Option<f32>,
    /// For quantised graphs, whose rounding differs between processors: the smallest accepted
    /// cosine.
    min_cosine: Option<f32>,
}

/// How close a vector must be to its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Agreement {
    /// No element differs by more than this.
    MaxDifference(f32),
    /// The cosine of the two vectors is at least this.
    MinCosine(f32),
}

impl ReferenceEntry {
    /// Returns the measure in the manifest, which must have exactly one.
    pub fn agreement(&self) -> Result<Agreement, String> {
        match (self.tolerance, self.min_cosine) {
            (Some(bound), None) if bound > 0.0 && bound < 1.0 => Ok(Agreement::MaxDifference(bound)),
            (None, Some(bound)) if bound > 0.0 && bound <= 1.0 => Ok(Agreement::MinCosine(bound)),
            (tolerance, min_cosine) => Err(format!(
                "expected a reference tolerance or min_cosine between 0 and 1, found {tolerance:?} and {min_cosine:?}"
            )),
        }
    }
}

/// The names of the graph's inputs, in one of two layouts for texts of different lengths. All
/// inputs are int64.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected the inputs ids and mask, or ids, hash_buckets and row_splits")]
pub enum Inputs {
    /// One row for each text, padded to the longest.
    Padded(PaddedInputs),
    /// The tokens of all texts, one text after another.
    Ragged(RaggedInputs),
}

/// The inputs of the padded layout, both of shape `[batch, tokens]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaddedInputs {
    /// Token ids.
    pub ids: String,
    /// The mask: 1 for a token, 0 for padding.
    pub mask: String,
}

/// The inputs of the ragged layout.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaggedInputs {
    /// Token ids, `[tokens]`.
    pub ids: String,
    /// Hash buckets, `[tokens]`.
    pub hash_buckets: String,
    /// The index of the first token of each text, then the number of all tokens, `[batch + 1]`.
    pub row_splits: String,
}

/// A text of `reference.json` and its expected result.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceText {
    /// The text.
    pub text: String,
    /// The number of tokens after truncation, special tokens included.
    pub token_count: usize,
    /// Whether the text is longer than the encoder reads.
    pub truncated: bool,
    /// The expected vector.
    pub vector: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceFile {
    texts: Vec<ReferenceText>,
}

/// Why a folder is not a valid bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read.
    #[error("bundle file {path}: {source} (`make models` makes the default bundle)")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file has invalid contents.
    #[error("bundle file {path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The expectation, and the value found.
        reason: String,
    },
    /// A file does not have the hash that the manifest gives.
    #[error("bundle file {path}: expected sha256 {expected}, found {found}")]
    Hash {
        /// The file.
        path: PathBuf,
        /// The hash in `encoder.json`.
        expected: String,
        /// The hash of the file.
        found: String,
    },
}

impl Bundle {
    /// Reads the manifest and verifies every file that it names.
    pub fn open(folder: &Path) -> Result<Self, BundleError> {
        let path = folder.join(MANIFEST);
        let io = |source| BundleError::Io { path: path.clone(), source };
        let file = std::fs::File::open(&path).map_err(io)?;
        let mut bytes = Vec::new();
        // Read one byte more than allowed, so a longer file is rejected rather than cut.
        file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        let invalid = |reason| BundleError::Invalid { path: path.clone(), reason };
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(invalid(format!("expected at most {MAX_MANIFEST_BYTES} bytes, found more")));
        }
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        manifest.check().map_err(invalid)?;
        let bundle =
            Self { fingerprint: hex::encode(Sha256::digest(&bytes)), manifest, folder: folder.to_owned() };
        for (name, expected) in &bundle.manifest.files {
            let path = folder.join(name);
            let found = sha256_of(&path).map_err(|source| BundleError::Io { path: path.clone(), source })?;
            if found != *expected {
                return Err(BundleError::Hash { path, expected: expected.clone(), found });
            }
        }
        Ok(bundle)
    }

    /// Describes the encoder of this bundle.
    #[must_use]
    pub fn description(&self) -> Description {
        Description {
            id: self.manifest.id.clone(),
            version: self.manifest.version.clone(),
            fingerprint: self.fingerprint.clone(),
            dimension: self.manifest.dimension,
            max_tokens: self.manifest.max_tokens,
        }
    }

    /// The folder of the bundle.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the graph.
    #[must_use]
    pub fn model_path(&self) -> PathBuf {
        self.folder.join(&self.manifest.model)
    }

    /// The file of the tokenizer.
    #[must_use]
    pub fn tokenizer_path(&self) -> PathBuf {
        self.folder.join(&self.manifest.tokenizer.file)
    }

    /// Reads the texts of the self-check. There is at least one.
    pub fn reference_texts(&self) -> Result<Vec<ReferenceText>, BundleError> {
        let path = self.folder.join(&self.manifest.reference.file);
        let bytes = std::fs::read(&path).map_err(|source| BundleError::Io { path: path.clone(), source })?;
        let invalid = |reason| BundleError::Invalid { path: path.clone(), reason };
        let file: ReferenceFile =
            serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if file.texts.is_empty() {
            return Err(invalid("expected at least one reference text, found none".to_owned()));
        }
        let dimension = self.manifest.dimension;
        for (index, ReferenceText { vector, .. }) in file.texts.iter().enumerate() {
            if vector.len() != dimension {
                let found = vector.len();
                return Err(invalid(format!(
                    "text {index}: expected a vector of {dimension} numbers, found {found}"
                )));
            }
            // serde_json reads a number such as 1e39 as infinity.
            if let Some(found) = vector.iter().find(|value| !value.is_finite()) {
                return Err(invalid(format!(
                    "text {index}: expected a vector of finite numbers, found {found}"
                )));
            }
        }
        Ok(file.texts)
    }
}

impl Manifest {
    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("expected format {FORMAT}, found {}", self.format));
        }
        if !(1..=65_536).contains(&self.dimension) {
            return Err(format!("expected a dimension of 1 to 65536, found {}", self.dimension));
        }
        if !(8..=65_536).contains(&self.max_tokens) {
            return Err(format!("expected max_tokens of 8 to 65536, found {}", self.max_tokens));
        }
        self.reference.agreement()?;
        for name in [&self.model, &self.tokenizer.file, &self.reference.file] {
            if !self.files.contains_key(name) {
                return Err(format!("expected a sha256 of {name:?} in \"files\", found none"));
            }
        }
        // A bundle names only files in its own folder.
        if let Some(name) = self.files.keys().find(|name| name.contains(['/', '\\']) || name.starts_with('.'))
        {
            return Err(format!("expected plain file names, found {name:?}"));
        }
        Ok(())
    }
}

fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&chunk[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle whose manifest ends with `padding` blanks, and whose reference text has the vector
    /// `vector`.
    fn bundle(padding: usize, vector: &str) -> (tempfile::TempDir, Result<Bundle, BundleError>) {
        let folder = tempfile::tempdir().unwrap();
        let reference = format!(
            r#"{{"texts": [{{"text": "a", "token_count": 3, "truncated": false, "vector": {vector}}}]}}"#
        );
        let files = [("model.onnx", "graph"), ("tokenizer.json", "{}"), ("reference.json", &reference)];
        let hashes: BTreeMap<_, _> =
            files.iter().map(|(name, content)| (*name, hex::encode(Sha256::digest(content)))).collect();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let manifest = serde_json::json!({
            "format": 1, "id": "tiny", "version": "1", "description": "", "licence": "CC0-1.0", "dimension": 2,
            "max_tokens": 8, "model": "model.onnx", "output": "o", "inputs": {"ids": "i", "mask": "m"},
            "tokenizer": {"kind": "wordpiece", "file": "tokenizer.json"},
            "reference": {"file": "reference.json", "tolerance": 1e-5}, "files": hashes,
        });
        std::fs::write(folder.path().join(MANIFEST), manifest.to_string() + &" ".repeat(padding)).unwrap();
        let opened = Bundle::open(folder.path());
        (folder, opened)
    }

    #[test]
    fn rejects_a_manifest_that_is_too_large() {
        assert!(bundle(9, "[0.5, 1.0]").1.is_ok());
        let message = bundle(1 << 20, "[0.5, 1.0]").1.unwrap_err().to_string();
        assert!(message.contains("encoder.json: expected at most 1048576 bytes"), "{message}");
    }

    #[test]
    fn rejects_a_reference_vector_with_infinity_or_of_another_length() {
        for vector in ["[0.5, 0.51e39]", "[0.5]", "[]"] {
            let (_folder, opened) = bundle(0, vector);
            let message = opened.unwrap().reference_texts().unwrap_err().to_string();
            assert!(message.contains("reference.json: text 0: expected a vector of "), "{message}");
        }
    }
}
