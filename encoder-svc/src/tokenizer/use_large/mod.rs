//! The text rules of encoders converted from TensorFlow, such as Universal Sentence Encoder large.
//!
//! WordPiece, which all other bundles use, is in `tokenizer::wordpiece`.

pub(crate) mod farmhash;
mod re2;
mod rules;
pub(crate) mod vocabulary;
