//! `POST /v1/embeddings`.

use axum::body::Bytes;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use service_kit::{ApiError, JsonBody};
use utoipa::ToSchema;

use super::input::Input;
use super::models::check_model;
use super::openai_error::OpenAiError;
use super::{RestState, quoted};
use crate::scheduler::entry::{Class, Reply};

/// Texts to encode. Unknown fields are ignored, because OpenAI's clients add new ones.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct EmbeddingsRequest {
    #[schema(value_type = String)]
    input: Input,
    /// The id of the bundle.
    model: String,
    #[serde(default)]
    encoding_format: Option<EncodingFormat>,
    /// The floats of a vector, which cannot be chosen.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    dimensions: Option<f64>,
    /// An extension.
    #[serde(default)]
    priority: Option<Priority>,
}

/// How vectors are written. Read from a string, because serde also accepts `{"float": null}` as an
/// enum's variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(rename_all = "lowercase")]
enum EncodingFormat {
    /// As numbers.
    #[default]
    Float,
    /// As little-endian 32-bit floats in Base64.
    Base64,
}

impl TryFrom<String> for EncodingFormat {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "float" => Ok(Self::Float),
            "base64" => Ok(Self::Base64),
            other => Err(format!("expected float or base64, found {}", quoted(other))),
        }
    }
}

/// The class of the texts, as in `Encode`.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(rename_all = "lowercase")]
enum Priority {
    Online,
    Bulk,
}

impl TryFrom<String> for Priority {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "online" => Ok(Self::Online),
            "bulk" => Ok(Self::Bulk),
            other => Err(format!("expected online or bulk, found {}", quoted(other))),
        }
    }
}

impl From<Priority> for Class {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Online => Self::Online,
            Priority::Bulk => Self::Bulk,
        }
    }
}

/// A response with more texts takes milliseconds to write, and megabytes.
const LARGE: usize = 16;
/// The bytes of a number in JSON, with a comma, at most nearly always.
const NUMBER_BYTES: usize = 13;

/// The vectors of the texts, in order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `write` writes piece by piece")]
struct EmbeddingsResponse<'a> {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<Element<'a>>,
    /// The id of the bundle.
    model: String,
    usage: Usage,
}

/// An element of `data`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Embedding)]
struct Element<'a> {
    #[schema(example = "embedding")]
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
    /// An extension: whether the end of the text was cut off; missing means false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    truncated: bool,
}

/// A vector as numbers or in Base64.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Vector<'a> {
    /// The shortest decimal numbers that read back as the same 32-bit floats.
    Numbers(&'a [f32]),
    /// Little-endian 32-bit floats.
    Base64(String),
}

/// Tokens after truncation.
#[derive(Debug, Serialize, ToSchema)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Encode texts. One invalid text rejects all.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "openai", operation_id = "createEmbeddings",
    request_body = EmbeddingsRequest,
    responses(
        (status = 200, description = "A vector for each text, in order", body = EmbeddingsResponse),
        (status = 404, description = "Another model than the one that is served", body = OpenAiError),
    ),
)]
pub(super) async fn create(
    State(rest): State<RestState>,
    JsonBody { body: request, caller, deadline }: JsonBody<EmbeddingsRequest>,
) -> Result<([(HeaderName, &'static str); 1], Bytes), ApiError> {
    let encoder = rest.encoder.encoder().description();
    check_model(&request.model, encoder)?;
    check_dimensions(request.dimensions, encoder.dimension)?;
    rest.encoder.check_count("input", request.input.count)?;
    let class = request.priority.map_or(Class::Online, Into::into);
    let replies = rest.encoder.encode("input", request.input.texts, class, &caller, deadline).await?;
    // Responses that are being written are in no budget yet, so only a few are at a time.
    let writing = async {
        let _writer = if replies.len() > LARGE { rest.writers.acquire().await.ok() } else { None };
        write(replies, &encoder.id, request.encoding_format.unwrap_or_default()).await
    };
    Ok(([(CONTENT_TYPE, "application/json")], deadline.bound(writing).await?))
}

/// Writes a response: the vectors of the texts, in order.
async fn write(replies: Vec<Reply>, model: &str, format: EncodingFormat) -> Bytes {
    let tokens = replies.iter().map(|reply| reply.token_count).sum();
    let numbers: usize = replies.iter().map(|reply| reply.vector.len()).sum();
    let mut json = Vec::with_capacity(numbers * NUMBER_BYTES);
    json.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, reply) in replies.into_iter().enumerate() {
        if index > 0 {
            json.push(b',');
            if index % LARGE == 0 {
                tokio::task::yield_now().await;
            }
        }
        let embedding = match format {
            EncodingFormat::Float => Vector::Numbers(&reply.vector),
            EncodingFormat::Base64 => Vector::Base64(to_base64(&reply.vector)),
        };
        append(&mut json, &Element { object: "embedding", index, embedding, truncated: reply.truncated });
    }
    json.extend_from_slice(b"],\"model\":");
    append(&mut json, &model);
    json.extend_from_slice(b",\"usage\":");
    append(&mut json, &Usage { prompt_tokens: tokens, total_tokens: tokens });
    json.push(b'}');
    // The memory budget counts the length of a body, not its capacity.
    json.shrink_to_fit();
    json.into()
}

fn append(json: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(json, value).expect("strings and numbers are valid JSON");
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

fn to_base64(vector: &[f32]) -> String {
    let bytes: Vec<_> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}
