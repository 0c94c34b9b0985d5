//! BERT's WordPiece (Wu et al., 2016, arXiv:1609.08144), as a Hugging Face `tokenizer.json`.

use std::path::Path;
use std::sync::Arc;

use tokenizers::{Tokenizer, TruncationParams};

use super::tokens::Tokens;

/// A WordPiece tokenizer. Clones share one vocabulary, so workers share it in the processor's
/// caches too.
#[derive(Clone)]
pub(super) struct WordPiece(Arc<Tokenizer>);

impl WordPiece {
    pub(super) fn load(path: &Path, max_tokens: usize) -> Result<Self, String> {
        read(path, max_tokens).map(|tokenizer| Self(Arc::new(tokenizer))).map_err(|error| error.to_string())
    }

    pub(super) fn tokenize(&self, text: &str) -> Result<Tokens, String> {
        // `encode_fast` leaves out offsets into the text, which are not needed.
        let encoding = self.0.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(Tokens {
            ids: encoding.get_ids().iter().map(|&id| i64::from(id)).collect(),
            hash_buckets: Vec::new(),
            truncated: !encoding.get_overflowing().is_empty(),
        })
    }
}

fn read(path: &Path, max_tokens: usize) -> tokenizers::Result<Tokenizer> {
    let content = std::fs::read(path)?;
    // The crate panics if the decoder is not JSON, and at the first text if a template names a
    // special token that does not exist.
    let _: serde_json::Value = serde_json::from_slice(&content)?;
    let tried = std::panic::catch_unwind(|| {
        let tokenizer = configured(&content, max_tokens)?;
        tokenizer.encode_fast("a", true)?;
        Ok(tokenizer)
    });
    tried.unwrap_or_else(|_| {
        Err("expected a tokenizer, found a file that makes the tokenizers crate panic".into())
    })
}

fn configured(content: &[u8], max_tokens: usize) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_bytes(content)?;
    // Both settings of this file are overridden: `tensors` adds padding, and the manifest limits
    // the tokens.
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(Some(TruncationParams { max_length: max_tokens, ..TruncationParams::default() }))?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(from: &str, to: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let fixture = include_str!("../../tests/fixtures/tiny-512/tokenizer.json");
        assert!(fixture.contains(from));
        std::fs::write(&path, fixture.replacen(from, to, 1)).unwrap();
        read(&path, 8).err().map(|error| error.to_string())
    }

    #[test]
    fn rejects_a_decoder_that_is_not_json() {
        assert_eq!(error_of("\"decoder\":", "\"decoder\": "), None);
        assert!(error_of("\"decoder\":", "\"decoder\":!").unwrap().contains("expected value"));
    }

    #[test]
    fn rejects_a_template_with_an_unknown_special_token_at_load() {
        assert!(error_of("\"id\": \"[CLS]\"", "\"id\": \"[ALS]\"").is_some());
    }
}
