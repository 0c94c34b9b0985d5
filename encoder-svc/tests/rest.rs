//! The interface of OpenAI: the routes over a real encoder, called without a socket.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::settings;
use encoder_svc::limited_encoder::LimitedEncoder;
use encoder_svc::scheduler::entry::{Class, Reply};
use encoder_svc::{EncoderSvcConfig, EncoderSvcSettings, rest, startup};
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use service_kit::{
    ApiKeySettings, Caller, Deadline, MemoryBudget, Metrics, canonical_path, http_stack, operations_routes,
};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

struct Api {
    routes: Router,
    encoder: LimitedEncoder,
    metrics: Metrics,
}

struct Response {
    status: StatusCode,
    headers: HeaderMap,
    json: Value,
}

impl Api {
    async fn start(change: impl FnOnce(&mut EncoderSvcSettings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let config = EncoderSvcConfig::try_from(settings).unwrap();
        let metrics = Metrics::default();
        let encoder = startup::start(config.encoder, metrics.clone()).await.unwrap();
        let encoder = LimitedEncoder::new(Arc::new(encoder), config.limits);
        let memory = MemoryBudget::for_messages_of(config.limits.max_json_bytes());
        let api = rest::routes(encoder.clone(), config.http_timeout, config.keys, memory);
        let routes = api.merge(operations_routes(service_kit::Readiness::default(), metrics.clone()));
        Self { routes: http_stack(routes, config.allowed_hosts, &metrics), encoder, metrics }
    }

    async fn call(&self, request: Request<Body>) -> Response {
        let response = self.routes.clone().oneshot(canonical_path(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 24).await.unwrap();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Response { status: parts.status, headers: parts.headers, json }
    }

    async fn post(&self, body: impl ToString) -> Response {
        let request = Request::post("/v1/embeddings").header("content-type", "application/json");
        self.call(request.body(body.to_string().into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Response {
        self.call(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// What `Encode` replies to the texts.
    async fn encode(&self, texts: &[&str]) -> Vec<Reply> {
        let texts = texts.iter().map(ToString::to_string).collect();
        self.encoder.encode("texts", texts, Class::Online, &Caller::UNKNOWN, Deadline::NONE).await.unwrap()
    }
}

/// The bits of the vectors in a response.
fn bits(response: &Value) -> Vec<Vec<u32>> {
    let values = |embedding: &Value| match embedding {
        Value::String(text) => {
            let bytes = STANDARD.decode(text).unwrap();
            bytes.chunks(4).map(|value| u32::from_le_bytes(value.try_into().unwrap())).collect()
        }
        numbers => {
            let numbers = numbers.as_array().unwrap();
            numbers.iter().map(|number| (number.as_f64().unwrap() as f32).to_bits()).collect()
        }
    };
    response["data"].as_array().unwrap().iter().map(|element| values(&element["embedding"])).collect()
}

fn bits_of(replies: &[Reply]) -> Vec<Vec<u32>> {
    replies.iter().map(|reply| reply.vector.iter().map(|value| value.to_bits()).collect()).collect()
}

fn request(input: impl Into<Value>) -> Value {
    json!({"model": "tiny-512", "input": input.into()})
}

fn with(field: &str, value: impl Into<Value>) -> Value {
    let mut request = request("a storm at sea");
    request[field] = value.into();
    request
}

#[tokio::test]
async fn vectors_are_those_of_encode_in_both_formats() {
    let api = Api::start(|_| {}).await;
    let long = "rain ".repeat(500);
    let texts = ["a ship", "a horse in the rain", "x", long.as_str()];
    let replies = api.encode(&texts).await;
    for format in [None, Some("float"), Some("base64")] {
        let mut body = request(texts.to_vec());
        if let Some(format) = format {
            body["encoding_format"] = format.into();
        }
        let response = api.post(body).await;
        assert_eq!(response.status, 200, "{}", response.json);
        assert_eq!(bits(&response.json), bits_of(&replies), "{format:?}");
        assert_eq!(response.json["data"][0]["embedding"].is_string(), format == Some("base64"));
        let tokens: usize = replies.iter().map(|reply| reply.token_count).sum();
        assert_eq!(response.json["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
        assert_eq!((&response.json["object"], &response.json["model"]), (&"list".into(), &"tiny-512".into()));
        for (index, element) in response.json["data"].as_array().unwrap().iter().enumerate() {
            assert_eq!((&element["object"], &element["index"]), (&"embedding".into(), &index.into()));
            let truncated = element.get("truncated").map(|truncated| truncated.as_bool().unwrap());
            assert_eq!(truncated, (index == 3).then_some(true));
        }
    }
    let one = api.post(request("a ship")).await;
    assert_eq!(bits(&one.json), bits_of(&replies[..1]));
}

#[tokio::test]
async fn accepts_what_clients_send_besides() {
    let api = Api::start(|_| {}).await;
    for (field, value) in [
        ("user", json!("u-1")),
        ("dimensions", json!(512)),
        ("dimensions", json!(512.0)),
        ("dimensions", Value::Null),
        ("encoding_format", Value::Null),
        ("priority", json!("online")),
        ("priority", json!("bulk")),
        ("priority", Value::Null),
        ("not_yet_invented", json!({"a": [1, 2]})),
    ] {
        let response = api.post(with(field, value.clone())).await;
        assert_eq!(response.status, 200, "{field} {value}: {}", response.json);
    }
}

#[tokio::test]
async fn bulk_texts_wait_in_the_class_of_bulk_texts() {
    let api = Api::start(|_| {}).await;
    assert_eq!(api.post(with("priority", "bulk")).await.status, 200);
    let metrics = api.metrics.render();
    let waited =
        |class: &str| metrics.contains(&format!("encoder_wait_seconds_count{{class=\"{class}\"}} 1\n"));
    assert!(waited("bulk") && !waited("online"), "{metrics}");
}

#[tokio::test]
async fn rejects_invalid_requests_in_the_form_of_openai_and_names_the_field() {
    let api = Api::start(|settings| settings.limits.max_text_bytes = 64).await;
    let number = || json!(1);
    let many: Vec<_> = (0..300).map(|_| "a").collect();
    let cases = [
        (request(json!([])), "input", "empty_batch"),
        (request(many), "input", "batch_too_large"),
        (request(""), "input[0]", "empty_text"),
        (request(json!(["a", " \u{2003}\n"])), "input[1]", "empty_text"),
        (request("é".repeat(33)), "input[0]", "text_too_long"),
        (request(json!([1, 2, 3])), "input[0]", "invalid_json"),
        (request(json!([[1, 2], [3]])), "input[0]", "invalid_json"),
        (request(json!(["a", null])), "input[1]", "invalid_json"),
        (request(Value::Null), "input", "invalid_json"),
        (request(json!({"text": "a"})), "input", "invalid_json"),
        (with("dimensions", 256), "dimensions", "unsupported_dimensions"),
        (with("dimensions", 1_u64 << 31), "dimensions", "unsupported_dimensions"),
        (with("dimensions", 512.5), "dimensions", "unsupported_dimensions"),
        (with("dimensions", -512), "dimensions", "unsupported_dimensions"),
        (with("dimensions", "512"), "dimensions", "invalid_json"),
        (with("encoding_format", "hex"), "encoding_format", "invalid_json"),
        (with("encoding_format", json!({"float": null})), "encoding_format", "invalid_json"),
        (with("encoding_format", number()), "encoding_format", "invalid_json"),
        (with("model", number()), "model", "invalid_json"),
        (with("model", Value::Null), "model", "invalid_json"),
        (with("priority", "high"), "priority", "invalid_json"),
    ];
    for (body, param, code) in cases {
        let response = api.post(&body).await;
        let error = &response.json["error"];
        assert_eq!(response.status, 400, "{body}: {error}");
        assert_eq!((&error["param"], &error["code"]), (&param.into(), &code.into()), "{body}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert_eq!(response.headers["content-type"], "application/json");
    }
    for body in ["", "null", "[]", "[\"a\"]", "{", "{\"input\": \"a\"}", "{\"model\": \"tiny-512\"}", "{} x"]
    {
        let response = api.post(body).await;
        let error = &response.json["error"];
        assert_eq!((response.status.as_u16(), &error["param"]), (400, &Value::Null), "{body}: {error}");
        assert_eq!(error["code"], "invalid_json");
    }
    let request = Request::post("/v1/embeddings").header("content-type", "text/plain");
    let response = api.call(request.body("{}".into()).unwrap()).await;
    assert_eq!(
        (response.status.as_u16(), &response.json["error"]["code"]),
        (415, &"unsupported_media_type".into())
    );
    assert_eq!(api.get("/v1/embeddings").await.json["error"]["code"], "method_not_allowed");
}

#[tokio::test]
async fn another_model_is_not_found_and_the_error_names_the_one_that_is_served() {
    let api = Api::start(|_| {}).await;
    let long = "m".repeat(100_000);
    for model in ["text-embedding-3-small", "", "TINY-512", long.as_str()] {
        let response = api.post(with("model", model)).await;
        let error = &response.json["error"];
        assert_eq!(response.status, 404, "{error}");
        assert_eq!((&error["code"], &error["param"]), (&"model_not_found".into(), &"model".into()));
        let message = error["message"].as_str().unwrap();
        assert!(message.ends_with("expected \"tiny-512\"") && message.len() < 200, "{message}");
    }
    assert_eq!(api.get("/v1/models/other").await.status, 404);
    let response = api.get("/v1/models/%FF").await;
    assert_eq!((response.status.as_u16(), &response.json["error"]["code"]), (400, &"invalid_path".into()));
}

#[tokio::test]
async fn describes_the_model() {
    let api = Api::start(|_| {}).await;
    let list = api.get("/v1/models").await.json;
    let model = api.get("/v1/models/tiny-512").await.json;
    assert_eq!((&list["object"], &list["data"]), (&"list".into(), &json!([model])));
    let encoder = api.encoder.encoder().description();
    assert_eq!((&model["id"], &model["object"]), (&"tiny-512".into(), &"model".into()));
    assert_eq!(model["fingerprint"], encoder.fingerprint);
    assert_eq!((&model["dimension"], &model["max_tokens"]), (&512.into(), &encoder.max_tokens.into()));
}

#[tokio::test]
async fn keys_guard_the_api_but_not_probes_and_metrics() {
    let api = Api::start(|settings| {
        settings.auth.keys = vec![ApiKeySettings {
            name: "ci".to_owned(),
            sha256: hex::encode(Sha256::digest("one")),
            texts_per_second: 1,
            texts_burst: 2,
            ..ApiKeySettings::default()
        }];
    })
    .await;
    let post = |key: Option<&str>, texts: usize| {
        let mut call = Request::post("/v1/embeddings").header("content-type", "application/json");
        if let Some(key) = key {
            call = call.header("authorization", format!("Bearer {key}"));
        }
        api.call(call.body(request(vec!["a"; texts]).to_string().into()).unwrap())
    };
    for key in [None, Some("two")] {
        let response = post(key, 1).await;
        assert_eq!(
            (response.status.as_u16(), &response.json["error"]["code"]),
            (401, &"invalid_api_key".into())
        );
        assert_eq!(response.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(post(Some("one"), 2).await.status, 200);
    let limited = post(Some("one"), 2).await;
    assert_eq!((limited.status.as_u16(), &limited.json["error"]["type"]), (429, &"rate_limit_error".into()));
    assert!(limited.headers.contains_key("retry-after"));
    assert_eq!(api.get("/v1/models").await.status, 401);
    for path in ["/livez", "/metrics", "/openapi.json"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    assert_eq!(api.get("/v1/other").await.status, 404);
}

#[tokio::test]
async fn an_overloaded_encoder_says_when_to_retry() {
    let api = Api::start(|settings| settings.encoder.max_queue_ms = 1).await;
    // An idle encoder admits any batch, so the calls come together.
    let batch = request(vec!["a storm at sea ".repeat(100); 64]);
    let responses = futures_util::future::join_all((0..4).map(|_| api.post(&batch))).await;
    let rejected: Vec<_> = responses.iter().filter(|response| response.status != 200).collect();
    assert!((1..4).contains(&rejected.len()), "{} of 4 calls rejected", rejected.len());
    for response in rejected {
        let error = &response.json["error"];
        assert_eq!((response.status.as_u16(), &error["code"]), (503, &"queue_full".into()));
        assert_eq!(error["type"], "server_error");
        assert!(response.headers.contains_key("retry-after"));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_or_too_slow_is_rejected() {
    let api = Api::start(|settings| {
        settings.limits.max_batch_size = 2;
        settings.limits.max_text_bytes = 100;
        settings.http.timeout_seconds = 0.05;
    })
    .await;
    let large = api.post(request("a".repeat(10_000))).await;
    assert_eq!((large.status.as_u16(), &large.json["error"]["code"]), (413, &"message_too_large".into()));
    let never = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let slow = Request::post("/v1/embeddings").header("content-type", "application/json").body(never);
    let slow = tokio::time::timeout(Duration::from_secs(10), api.call(slow.unwrap())).await.unwrap();
    assert_eq!((slow.status.as_u16(), &slow.json["error"]["code"]), (408, &"body_timeout".into()));
}

#[tokio::test]
async fn measures_requests_by_route() {
    let api = Api::start(|_| {}).await;
    api.post(request("a storm at sea")).await;
    let metrics = api.metrics.render();
    let count = "http_request_seconds_count{route=\"/v1/embeddings\",status=\"200\"} 1";
    assert!(metrics.contains(count), "{metrics}");
}

#[tokio::test]
async fn the_openapi_document_states_limits_names_and_errors() {
    let api = Api::start(|settings| {
        settings.limits.max_batch_size = 7;
        settings.limits.max_text_bytes = 99;
    })
    .await;
    let response = api.get("/openapi.json").await;
    assert_eq!(response.headers["content-type"], "application/json");
    let document = response.json;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["security"], json!([{}, {"apiKey": []}]));
    let schemas = &document["components"]["schemas"];
    let properties = &schemas["EmbeddingsRequest"]["properties"];
    assert_eq!(properties["model"]["enum"], json!(["tiny-512"]));
    assert_eq!(properties["dimensions"]["enum"], json!([512, null]));
    let input = &properties["input"]["oneOf"];
    assert_eq!((&input[0]["maxLength"], &input[1]["maxItems"]), (&json!(99), &json!(7)));
    assert_eq!(schemas["InferInput"]["properties"]["data"]["maxItems"], 7);
    assert_eq!(schemas["InferInput"]["properties"]["name"]["enum"], json!(["TEXT"]));
    assert_eq!(
        schemas["InferOutputRequest"]["properties"]["name"]["enum"],
        json!(["VECTOR", "TOKENS", "TRUNCATED"])
    );
    for (path, schema) in [("/v1/embeddings", "OpenAiError"), ("/v2/models/{name}/infer", "InferenceError")] {
        let operation = &document["paths"][path]["post"];
        let responses = operation["responses"].as_object().unwrap();
        let statuses: Vec<_> = responses.keys().map(String::as_str).collect();
        assert_eq!(
            statuses,
            ["200", "400", "401", "404", "408", "413", "415", "421", "429", "500", "503", "504"],
            "{path}"
        );
        for (status, response) in responses.iter().filter(|(status, _)| *status != "200") {
            let response = match response["$ref"].as_str() {
                Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
                None => response,
            };
            // Host names are checked before any API.
            let (kind, name) = match status.as_str() {
                "421" => ("application/problem+json", "Problem"),
                _ => ("application/json", schema),
            };
            let found = &response["content"][kind]["schema"]["$ref"];
            assert_eq!(found, &format!("#/components/schemas/{name}"), "{path} {status}");
        }
        assert!(operation.get("security").is_none());
    }
}

#[tokio::test]
async fn the_openapi_document_has_a_schema_for_every_reference() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = Api::start(|_| {}).await.get("/openapi.json").await.json;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap());
    let ids: Vec<_> = operations.map(|(_, operation)| operation["operationId"].as_str().unwrap()).collect();
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), unique.len()), (14, 14), "{ids:?}");
}
