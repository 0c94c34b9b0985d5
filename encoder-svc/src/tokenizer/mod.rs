//! Text to tokens: ids, and hash buckets for encoders that have them.
//!
//! This folder knows the bundle; it must not know the graph or the queue.

pub(crate) mod tokens;
mod use_large;
mod wordpiece;

use crate::bundle::{Bundle, BundleError, TokenizerKind};
pub use tokens::Tokens;
use use_large::vocabulary::VocabularyTokenizer;
use wordpiece::WordPiece;

/// The tokenizer of a bundle. Clones share it. The rest of the service does not know its kind.
#[derive(Clone)]
pub struct TextTokenizer(Kind);

#[derive(Clone)]
enum Kind {
    WordPiece(WordPiece),
    Vocabulary(VocabularyTokenizer),
}

impl TextTokenizer {
    /// Reads the tokenizer of a bundle.
    pub fn load(bundle: &Bundle) -> Result<Self, BundleError> {
        let (path, max_tokens) = (bundle.tokenizer_path(), bundle.manifest.max_tokens);
        let kind = match bundle.manifest.tokenizer.kind {
            TokenizerKind::WordPiece => WordPiece::load(&path, max_tokens).map(Kind::WordPiece),
            TokenizerKind::Vocabulary => VocabularyTokenizer::load(&path, max_tokens).map(Kind::Vocabulary),
        };
        kind.map(Self).map_err(|reason| BundleError::Invalid { path, reason })
    }

    /// Returns the tokens of a text. An error means that the bundle is defective.
    pub fn tokenize(&self, text: &str) -> Result<Tokens, String> {
        match &self.0 {
            Kind::WordPiece(word_piece) => word_piece.tokenize(text),
            Kind::Vocabulary(vocabulary) => Ok(vocabulary.tokenize(text)),
        }
    }
}
