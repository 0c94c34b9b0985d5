//! The fuzz targets, one file each: a check, seeds and a dictionary.
//!
//! Targets do not use each other; what they share lives in `harness`.

mod bundle;
mod classify_request;
mod embeddings_body;
mod encode_request;
mod genres_field;
mod infer_request;
mod model_file;
mod movie_table;
mod movies_csv;
mod request_headers;
mod rest_body;
mod sentences;
mod settings;
mod tokenizer;
mod vectors_file;

use crate::target::Target;

/// All targets.
pub const TARGETS: [Target; 15] = [
    encode_request::TARGET,
    classify_request::TARGET,
    infer_request::TARGET,
    request_headers::TARGET,
    rest_body::TARGET,
    embeddings_body::TARGET,
    movie_table::TARGET,
    movies_csv::TARGET,
    genres_field::TARGET,
    model_file::TARGET,
    bundle::TARGET,
    vectors_file::TARGET,
    settings::TARGET,
    tokenizer::TARGET,
    sentences::TARGET,
];
