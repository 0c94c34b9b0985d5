//! The tokenizer of encoders converted from TensorFlow, such as Universal Sentence Encoder large.
//!
//! All other bundles use WordPiece, which is in `tokenizer::wordpiece`.

pub(crate) mod farmhash;
mod re2;
mod rules;
pub(crate) mod vocabulary;
