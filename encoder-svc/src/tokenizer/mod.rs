//! Text to what the graph takes: token ids, and hash buckets where the encoder has them.

mod use_large;
mod wordpiece;

use crate::bundle::{Bundle, BundleError, TokenizerKind};
use use_large::vocabulary::VocabularyTokenizer;
use wordpiece::WordPiece;

/// A text's tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Ids, the special tokens included; at most the encoder's `max_tokens`. A text can have none.
    pub ids: Vec<i64>,
    /// The hash bucket of each, from a tokenizer that has such; else empty.
    pub hash_buckets: Vec<i64>,
    /// Whether the text went on after them.
    pub truncated: bool,
}

/// The tokenizer of a bundle, cheap to clone. Nothing else in the service knows which kind it is.
#[derive(Clone)]
pub struct TextTokenizer(Kind);

#[derive(Clone)]
enum Kind {
    WordPiece(WordPiece),
    Vocabulary(VocabularyTokenizer),
}

impl TextTokenizer {
    /// Reads the tokenizer that the bundle names.
    pub fn load(bundle: &Bundle) -> Result<Self, BundleError> {
        let (path, max_tokens) = (bundle.tokenizer_path(), bundle.manifest.max_tokens);
        let kind = match bundle.manifest.tokenizer.kind {
            TokenizerKind::WordPiece => WordPiece::load(&path, max_tokens).map(Kind::WordPiece),
            TokenizerKind::Vocabulary => VocabularyTokenizer::load(&path, max_tokens).map(Kind::Vocabulary),
        };
        kind.map(Self).map_err(|reason| BundleError::Invalid { path, reason })
    }

    /// Tokens of any text; the error is a defect of the bundle.
    pub fn tokenize(&self, text: &str) -> Result<Tokens, String> {
        match &self.0 {
            Kind::WordPiece(word_piece) => word_piece.tokenize(text),
            Kind::Vocabulary(vocabulary) => Ok(vocabulary.tokenize(text)),
        }
    }
}
