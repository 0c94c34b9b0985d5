//! Writes the response to a request: JSON, and behind it the tensors that are wanted raw.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Binary, JSON_LENGTH};
use crate::model::Inferred;
use crate::tensor::Elements;

/// The outputs of a model.
#[derive(Serialize, ToSchema)]
#[schema(as = InferResponse)]
pub(super) struct InferReply<'a> {
    model_name: &'a str,
    /// The version that ran.
    model_version: &'a str,
    /// That of the request, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

/// An output.
#[derive(Serialize, ToSchema)]
#[schema(as = InferOutput)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    #[schema(value_type = Vec<u64>)]
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = RawSize, required = false)]
    parameters: Option<RawSize>,
    /// The elements in row-major order, unless they are raw: numbers, booleans or texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<serde_json::Value>, required = false)]
    data: Option<&'a Elements>,
}

/// The bytes of a raw tensor behind the JSON.
#[derive(Serialize, ToSchema)]
struct RawSize {
    binary_data_size: usize,
}

/// Returns the response of `model`.
pub(super) fn response(model: &str, id: Option<&str>, inferred: &Inferred, binary: &Binary) -> Response {
    let mut raw = Vec::new();
    let mut outputs = Vec::with_capacity(inferred.outputs.len());
    for (index, tensor) in inferred.outputs.iter().enumerate() {
        let is_raw = binary.is_raw(index);
        let parameters = is_raw.then(|| {
            let elements = tensor.elements.to_raw();
            let size = RawSize { binary_data_size: elements.len() };
            raw.push(elements);
            size
        });
        outputs.push(Output {
            name: tensor.name,
            datatype: tensor.elements.datatype().name(),
            shape: &tensor.shape,
            parameters,
            data: (!is_raw).then_some(&tensor.elements),
        });
    }
    let reply = InferReply { model_name: model, model_version: &inferred.version, id, outputs };
    let mut body = serde_json::to_vec(&reply).expect("strings and numbers are valid JSON");
    let length = body.len();
    let has_raw = !raw.is_empty();
    for elements in raw {
        body.extend(elements);
    }
    let mut response = Response::new(Body::from(body));
    let content_type = if has_raw { "application/octet-stream" } else { "application/json" };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if has_raw {
        headers.insert(JSON_LENGTH, HeaderValue::from(length));
    }
    response
}
