//! `POST /v1/embeddings`.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use service_kit::{ApiError, JsonBody};

use super::RestState;
use super::input::Input;
use super::models::check_model;
use crate::scheduler::entry::{Class, Reply};

/// Texts to encode. Unknown fields are ignored, because OpenAI's clients add new ones.
#[derive(Debug, Deserialize)]
pub(super) struct EmbeddingsRequest {
    input: Input,
    /// The id of the bundle.
    model: String,
    #[serde(default)]
    encoding_format: Option<EncodingFormat>,
    /// The floats of a vector, which cannot be chosen.
    #[serde(default)]
    dimensions: Option<f64>,
    /// An extension.
    #[serde(default)]
    priority: Option<Priority>,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    /// As numbers.
    #[default]
    Float,
    /// As little-endian 32-bit floats in Base64.
    Base64,
}

/// The class of the texts, as in `Encode`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Priority {
    Online,
    Bulk,
}

impl From<Priority> for Class {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Online => Self::Online,
            Priority::Bulk => Self::Bulk,
        }
    }
}

/// The vectors of the texts, in order.
#[derive(Debug, Serialize)]
pub(super) struct EmbeddingsResponse {
    object: &'static str,
    data: Vec<Box<RawValue>>,
    model: String,
    usage: Usage,
}

/// An element of `data`.
#[derive(Debug, Serialize)]
struct Element<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
    /// An extension: whether the end of the text was cut off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Vector<'a> {
    /// The shortest decimal numbers that read back as the same 32-bit floats.
    Numbers(&'a [f32]),
    Base64(String),
}

/// Tokens after truncation.
#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

pub(super) async fn create(
    State(rest): State<RestState>,
    JsonBody { body: request, caller, deadline }: JsonBody<EmbeddingsRequest>,
) -> Result<Json<EmbeddingsResponse>, ApiError> {
    let encoder = rest.encoder.encoder().description();
    check_model(&request.model, encoder)?;
    check_dimensions(request.dimensions, encoder.dimension)?;
    rest.encoder.check_count("input", request.input.count)?;
    let class = request.priority.map_or(Class::Online, Into::into);
    let encoding = rest.encoder.encode("input", request.input.texts, class, &caller, deadline);
    let replies = deadline.bound(encoding).await??;
    let tokens = replies.iter().map(|reply| reply.token_count).sum();
    let mut data = Vec::with_capacity(replies.len());
    for (index, reply) in replies.iter().enumerate() {
        data.push(element(index, reply, request.encoding_format.unwrap_or_default()));
        // A large response takes milliseconds to write, in which other calls go on.
        tokio::task::yield_now().await;
    }
    Ok(Json(EmbeddingsResponse {
        object: "list",
        data,
        model: encoder.id.clone(),
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    }))
}

fn check_dimensions(asked: Option<f64>, served: usize) -> Result<(), ApiError> {
    match asked {
        Some(asked) if asked.to_string() != served.to_string() => {
            let description = format!("expected {served}, which cannot be changed, or none; found {asked}");
            Err(ApiError::invalid("dimensions", "UNSUPPORTED_DIMENSIONS", description))
        }
        _ => Ok(()),
    }
}

fn element(index: usize, reply: &Reply, format: EncodingFormat) -> Box<RawValue> {
    let embedding = match format {
        EncodingFormat::Float => Vector::Numbers(&reply.vector),
        EncodingFormat::Base64 => Vector::Base64(to_base64(&reply.vector)),
    };
    let element = Element { object: "embedding", index, embedding, truncated: reply.truncated };
    to_raw_value(&element).expect("strings and numbers are valid JSON")
}

fn to_base64(vector: &[f32]) -> String {
    let bytes: Vec<_> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}
