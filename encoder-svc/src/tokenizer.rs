//! Text to token ids.

use std::path::Path;

use tokenizers::{Tokenizer, TruncationParams};

use crate::bundle::{Bundle, BundleError, TokenizerKind};

/// A text's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Ids, the special tokens included; at most the encoder's `max_tokens`.
    pub ids: Vec<i64>,
    /// Whether the text went on after them.
    pub truncated: bool,
}

/// The tokenizer of a bundle. Nothing else in the service knows which kind it is.
#[derive(Clone)]
pub struct TextTokenizer {
    word_piece: Tokenizer,
}

impl TextTokenizer {
    /// Reads the tokenizer that the bundle names.
    pub fn load(bundle: &Bundle) -> Result<Self, BundleError> {
        let path = bundle.tokenizer_path();
        match bundle.manifest.tokenizer.kind {
            TokenizerKind::WordPiece => load_word_piece(&path, bundle.manifest.max_tokens)
                .map(|word_piece| Self { word_piece })
                .map_err(|error| BundleError::Invalid { path, reason: error.to_string() }),
        }
    }

    /// Tokens of any text; the error is a defect of the bundle.
    pub fn tokenize(&self, text: &str) -> Result<Tokens, String> {
        // Without offsets into the text, which nothing here needs.
        let encoding = self.word_piece.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(Tokens {
            ids: encoding.get_ids().iter().map(|&id| i64::from(id)).collect(),
            truncated: !encoding.get_overflowing().is_empty(),
        })
    }
}

fn load_word_piece(path: &Path, max_tokens: usize) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_file(path)?;
    // Each text runs alone: there is nothing to pad to. Where to cut is the bundle's word, not the file's.
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(Some(TruncationParams { max_length: max_tokens, ..TruncationParams::default() }))?;
    Ok(tokenizer)
}
