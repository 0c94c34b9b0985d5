//! The fuzz targets, one file each: a check, seeds and a dictionary.
//!
//! Targets do not use each other; what they share lives in `harness`.

mod files;
mod requests;

use self::files::{bundle, genres_field, model_file, movie_table, movies_csv, settings, vectors_file};
use self::requests::{
    classify_request, embeddings_body, encode_request, infer_request, request_headers, rest_body, sentences,
    tokenizer,
};
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
