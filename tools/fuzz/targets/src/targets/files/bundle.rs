//! Encoder bundles: manifest, tokenizer and reference texts.
//!
//! The sections of an input are these three files. `HASH_OF_MODEL`, `HASH_OF_TOKENIZER` and
//! `HASH_OF_REFERENCE` in the manifest are replaced by the correct hashes, so that mutations get
//! past the integrity check.

use encoder_svc::bundle::{Agreement, Bundle, BundleError};
use encoder_svc::tokenizer::TextTokenizer;
use sha2::{Digest as _, Sha256};

use crate::harness::allocation::bounded;
use crate::harness::inputs::{SEPARATOR, file, folder, split};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "bundle",
    check,
    seeds,
    dictionary: &[
        "\"format\": 1",
        "\"files\": {",
        "\"..\"",
        "/",
        "HASH_OF_MODEL",
        "HASH_OF_TOKENIZER",
        "HASH_OF_REFERENCE",
        "\"kind\": \"wordpiece\"",
        "\"kind\": \"vocabulary\"",
        "\"step\": \"replace\"",
        "\"pattern\": \"",
        "\\\\d{9}",
        "[[:punct:]]",
        "(?i)",
        "\\\\Q",
        "{1000}",
        "[^",
        "a-",
        "\"by\": \"blanks\"",
        "\n====\n",
        "null",
        "-1",
        "1e39",
        "18446744073709551615",
    ],
    max_len: 4096,
    cases: 12000,
};

const MODEL: &[u8] = b"any graph";
/// The text that a valid tokenizer is tried on.
const TEXT: &str = "Deux sœurs, 1,234 maps \u{0}\u{301}; a {duel}..  [at] dawn 🎬";

fn check(data: &[u8]) {
    let [manifest, tokenizer, reference] = split(data);
    let hashes = [("MODEL", MODEL), ("TOKENIZER", tokenizer), ("REFERENCE", reference)];
    let manifest = hashes.iter().fold(manifest.to_vec(), |manifest, (name, content)| {
        replace(
            &manifest,
            format!("HASH_OF_{name}").as_bytes(),
            hex::encode(Sha256::digest(content)).as_bytes(),
        )
    });
    file("model.onnx", MODEL);
    file("tokenizer.json", tokenizer);
    file("reference.json", reference);
    file("encoder.json", &manifest);
    let bundle = match bounded(data.len(), || Bundle::open(&folder())) {
        Ok(bundle) => bundle,
        Err(error) => return assert_names_the_file(&error),
    };
    assert_eq!(
        bundle.fingerprint,
        hex::encode(Sha256::digest(&manifest)),
        "the fingerprint is the hash of the manifest"
    );
    let manifest = &bundle.manifest;
    assert!((1..=65_536).contains(&manifest.dimension) && (8..=65_536).contains(&manifest.max_tokens));
    match manifest.reference.agreement().expect("a bundle opens only with a valid agreement") {
        Agreement::MaxDifference(bound) | Agreement::MinCosine(bound) => assert!(bound > 0.0 && bound <= 1.0),
    }
    for path in [bundle.model_path(), bundle.tokenizer_path()] {
        assert_eq!(path.parent(), Some(folder().as_path()), "a bundle names only its own files");
    }
    match bounded(data.len(), || bundle.reference_texts()) {
        Ok(texts) => {
            assert!(!texts.is_empty());
            assert!(texts.iter().flat_map(|text| &text.vector).all(|value| value.is_finite()), "{texts:?}");
        }
        Err(error) => assert_names_the_file(&error),
    }
    match bounded(data.len(), || TextTokenizer::load(&bundle)) {
        Ok(tokenizer) => {
            // Outside of `bounded`: rules may multiply the length of a text.
            let tokens = tokenizer.tokenize(TEXT);
            assert_eq!(tokens, tokenizer.tokenize(TEXT), "tokens are a function of the text");
            if let Ok(tokens) = tokens {
                assert!(tokens.ids.len() <= manifest.max_tokens, "{} tokens", tokens.ids.len());
            }
        }
        Err(error) => assert_names_the_file(&error),
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn assert_names_the_file(error: &BundleError) {
    let (BundleError::Io { path, .. } | BundleError::Invalid { path, .. } | BundleError::Hash { path, .. }) =
        error;
    assert!(path.starts_with(folder()), "{error}");
    assert!(error.to_string().starts_with("bundle file "), "{error}");
}

fn seeds() -> Vec<Vec<u8>> {
    let manifest = |kind: &str, agreement: &str, inputs: &str| {
        format!(
            r#"{{"format": 1, "id": "tiny", "version": "1", "description": "", "licence": "CC0-1.0", "dimension": 2,
"max_tokens": 8, "model": "model.onnx", "output": "embedding", "inputs": {inputs},
"tokenizer": {{"kind": "{kind}", "file": "tokenizer.json"}}, "reference": {{"file": "reference.json", {agreement}}},
"files": {{"model.onnx": "HASH_OF_MODEL", "tokenizer.json": "HASH_OF_TOKENIZER", "reference.json": "HASH_OF_REFERENCE"}}}}"#
        )
    };
    let padded = r#"{"ids": "ids", "mask": "mask"}"#;
    let ragged = r#"{"ids": "ids", "hash_buckets": "b", "row_splits": "r"}"#;
    let words = r###"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
"normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
"pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": null,
"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[C]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
"pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"[C]": {"id": "[C]", "ids": [0], "tokens": ["[C]"]}}},
"model": {"type": "WordPiece", "unk_token": "[U]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9, "vocab": {"[C]": 0, "[U]": 1, "a": 2, "##a": 3, "map": 4}}}"###;
    let rules = r#"{"steps": [{"step": "replace", "pattern": "([[:punct:]])", "rewrite": " \\1 ", "all": true},
{"step": "replace", "pattern": "(?i) ' *(s|t) |[^\\S\\n]{2,}|\\Qa.b\\E", "rewrite": " ", "all": false}, {"step": "lower", "unicode": true},
{"step": "strip"}, {"step": "join", "before": "<", "after": ">"}], "split": {"by": "any_of", "separators": " ", "skip_empty": true},
"default_id": -1, "hash_buckets": 61, "vocabulary": {"maps": 3}}"#;
    let reference =
        r#"{"texts": [{"text": "a", "token_count": 3, "truncated": false, "vector": [0.5, 1e-9]}]}"#;
    let input = |manifest: String, tokenizer: &str| {
        [manifest.as_bytes(), SEPARATOR, tokenizer.as_bytes(), SEPARATOR, reference.as_bytes()].concat()
    };
    vec![
        input(manifest("wordpiece", r#""tolerance": 1e-5"#, padded), words),
        input(manifest("vocabulary", r#""min_cosine": 0.9"#, ragged), rules),
        input(manifest("vocabulary", r#""min_cosine": 2"#, padded), r#"{"steps": []}"#),
        b"{}".to_vec(),
    ]
}
