//! The tokenizer of encoders converted from TensorFlow graphs: rules, a vocabulary, and hash
//! buckets for words that are not in it. Universal Sentence Encoder large (Cer et al., 2018,
//! arXiv:1803.11175) works like this.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::farmhash::hash_bucket;
use super::rules::{Split, Step, StepEntry};
use crate::tokenizer::tokens::Tokens;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VocabularyFile {
    steps: Vec<StepEntry>,
    split: Split,
    /// The id of words that are not in the vocabulary.
    default_id: i64,
    hash_buckets: NonZeroU64,
    vocabulary: HashMap<String, i64>,
}

/// A tokenizer that follows the rules of the bundle's file. Clones share them.
#[derive(Clone)]
pub(crate) struct VocabularyTokenizer(Arc<Rules>);

struct Rules {
    steps: Vec<Step>,
    split: Split,
    default_id: i64,
    hash_buckets: NonZeroU64,
    vocabulary: HashMap<String, i64>,
    max_tokens: usize,
}

impl VocabularyTokenizer {
    pub(crate) fn load(path: &Path, max_tokens: usize) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let file: VocabularyFile =
            serde_json::from_reader(BufReader::new(file)).map_err(|error| error.to_string())?;
        let steps = file.steps.into_iter().map(Step::try_from).collect::<Result<_, _>>();
        Ok(Self(Arc::new(Rules {
            steps: steps.map_err(|error| error.to_string())?,
            split: file.split,
            default_id: file.default_id,
            hash_buckets: file.hash_buckets,
            vocabulary: file.vocabulary,
            max_tokens,
        })))
    }

    pub(crate) fn tokenize(&self, text: &str) -> Tokens {
        let rules = &*self.0;
        let text = rules.steps.iter().fold(text.to_owned(), |text, step| step.apply(&text));
        let mut words = rules.split.tokens(&text);
        let mut tokens = Tokens::default();
        for word in words.by_ref().take(rules.max_tokens) {
            tokens.ids.push(rules.vocabulary.get(word).copied().unwrap_or(rules.default_id));
            let bucket = hash_bucket(word.as_bytes(), rules.hash_buckets.get());
            tokens.hash_buckets.push(bucket.cast_signed());
        }
        tokens.truncated = words.next().is_some();
        tokens
    }
}
