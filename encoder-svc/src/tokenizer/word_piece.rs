//! BERT's WordPiece (Wu et al., 2016, arXiv:1609.08144), as a Hugging Face `tokenizer.json`.

use std::path::Path;

use tokenizers::{Tokenizer, TruncationParams};

use super::Tokens;

#[derive(Clone)]
pub(super) struct WordPiece(Tokenizer);

impl WordPiece {
    pub(super) fn load(path: &Path, max_tokens: usize) -> Result<Self, String> {
        read(path, max_tokens).map(Self).map_err(|error| error.to_string())
    }

    pub(super) fn tokenize(&self, text: &str) -> Result<Tokens, String> {
        // Without offsets into the text, which nothing here needs.
        let encoding = self.0.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(Tokens {
            ids: encoding.get_ids().iter().map(|&id| i64::from(id)).collect(),
            hash_buckets: Vec::new(),
            truncated: !encoding.get_overflowing().is_empty(),
        })
    }
}

fn read(path: &Path, max_tokens: usize) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_file(path)?;
    // Each text runs alone: there is nothing to pad to. Where to cut is the bundle's word, not the file's.
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(Some(TruncationParams { max_length: max_tokens, ..TruncationParams::default() }))?;
    Ok(tokenizer)
}
