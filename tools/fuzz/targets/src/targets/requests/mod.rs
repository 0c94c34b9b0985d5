//! What clients send: messages, bodies, headers, and the texts in them.

pub(super) mod classify_request;
pub(super) mod embeddings_body;
pub(super) mod encode_request;
pub(super) mod infer_request;
pub(super) mod request_headers;
pub(super) mod rest_body;
pub(super) mod sentences;
pub(super) mod tokenizer;
