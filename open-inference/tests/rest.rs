//! The protocol over REST, in front of a model that needs no encoder.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use axum::body::Body;
use common::{Echo, LIMIT, VERSION};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use service_kit::{BodyLimits, MemoryBudget, MessageBudget};
use tower::ServiceExt as _;

struct Response {
    status: u16,
    /// Bytes of JSON, if others follow.
    json_length: Option<usize>,
    body: Vec<u8>,
}

impl Response {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body[..self.json_length.unwrap_or(self.body.len())]).unwrap()
    }
}

async fn send(is_ready: bool, request: Request<Body>) -> Response {
    let budget = MessageBudget::new(MemoryBudget::for_messages_of(LIMIT));
    let limits = BodyLimits { timeout: Duration::from_secs(10), max_bytes: LIMIT, budget };
    let routes = open_inference::routes(Echo { is_ready }, None, limits);
    let response = routes.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let length = response.headers().get("inference-header-content-length");
    let json_length = length.map(|length| length.to_str().unwrap().parse().unwrap());
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
    Response { status, json_length, body }
}

async fn get(path: &str) -> (u16, Value) {
    let response = send(true, Request::get(path).body(Body::empty()).unwrap()).await;
    (response.status, response.json())
}

async fn infer(body: &Value) -> Response {
    let request = Request::post("/v2/models/echo/infer").body(Body::from(body.to_string())).unwrap();
    send(true, request).await
}

fn request() -> Value {
    json!({"id": "7", "inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [2], "data": ["a", "bcd"]}]})
}

#[tokio::test]
async fn json_gets_json() {
    let response = infer(&request()).await;
    assert_eq!(response.status, 200);
    let expected = json!({
        "model_name": "echo",
        "model_version": VERSION,
        "id": "7",
        "outputs": [
            {"name": "ECHO", "datatype": "BYTES", "shape": [2], "data": ["a", "bcd"]},
            {"name": "LENGTH", "datatype": "INT32", "shape": [2], "data": [1, 3]},
        ],
    });
    assert_eq!(response.json(), expected);
}

#[tokio::test]
async fn raw_tensors_are_behind_the_json() {
    let raw = b"\x01\0\0\0a\x03\0\0\0bcd";
    let header = json!({
        "parameters": {"binary_data_output": true},
        "inputs": [{
            "name": "TEXT", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": raw.len()},
        }],
        "outputs": [{"name": "LENGTH"}, {"name": "ECHO", "parameters": {"binary_data": false}}],
    })
    .to_string();
    let request = Request::post(format!("/v2/models/echo/versions/{VERSION}/infer"))
        .header("inference-header-content-length", header.len())
        .body(Body::from([header.as_bytes(), raw].concat()))
        .unwrap();
    let response = send(true, request).await;
    assert_eq!(response.status, 200);
    let outputs = json!([
        {"name": "LENGTH", "datatype": "INT32", "shape": [2], "parameters": {"binary_data_size": 8}},
        {"name": "ECHO", "datatype": "BYTES", "shape": [2], "data": ["a", "bcd"]},
    ]);
    assert_eq!(response.json()["outputs"], outputs);
    assert_eq!(response.body[response.json_length.unwrap()..], *b"\x01\0\0\0\x03\0\0\0");
}

#[tokio::test]
async fn errors_have_the_body_of_the_protocol() {
    let mut wrong = request();
    wrong["inputs"][0]["shape"] = json!([1_u64 << 31]);
    let response = infer(&wrong).await;
    let message = "TEXT: expected 2147483648 elements as the shape [2147483648] says, found 2";
    assert_eq!((response.status, response.json()), (400, json!({"error": message})));
    let failing = json!({"parameters": {"fail": 1}, "inputs": request()["inputs"]});
    let expected = (400, json!({"error": "TEXT[1]: expected a text"}));
    let response = infer(&failing).await;
    assert_eq!((response.status, response.json()), expected);
    for (path, status) in
        [("/v2/models/other", 404), ("/v2/models/echo/versions/9", 404), ("/v2/models/%ff", 400)]
    {
        let (found, body) = get(path).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body["error"].is_string(), "{path}: {body}");
    }
    let (status, body) = get("/v2/models/echo/infer").await;
    assert_eq!((status, body["error"].is_string()), (405, true));
    let large = Request::post("/v2/models/echo/infer").body(Body::from(vec![b' '; LIMIT + 1])).unwrap();
    assert_eq!(send(true, large).await.status, 413);
}

#[tokio::test]
async fn describes_server_and_model() {
    let server = json!({"name": "echo-svc", "version": "0.1.0", "extensions": ["binary_tensor_data", "model_configuration"]});
    assert_eq!(get("/v2").await, (200, server));
    let model = json!({
        "name": "echo",
        "versions": [VERSION],
        "platform": "test",
        "inputs": [
            {"name": "TEXT", "datatype": "BYTES", "shape": [-1]},
            {"name": "SUFFIX", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "ECHO", "datatype": "BYTES", "shape": [-1]},
            {"name": "LENGTH", "datatype": "INT32", "shape": [-1]},
        ],
    });
    for path in ["/v2/models/echo", &format!("/v2/models/echo/versions/{VERSION}")] {
        assert_eq!(get(path).await, (200, model.clone()));
    }
}

#[tokio::test]
async fn describes_the_model_as_triton_does() {
    let config = json!({
        "name": "echo",
        "platform": "test",
        "max_batch_size": 0,
        "input": [
            {"name": "TEXT", "data_type": "TYPE_STRING", "dims": [-1], "optional": false},
            {"name": "SUFFIX", "data_type": "TYPE_STRING", "dims": [-1], "optional": true},
        ],
        "output": [
            {"name": "ECHO", "data_type": "TYPE_STRING", "dims": [-1]},
            {"name": "LENGTH", "data_type": "TYPE_INT32", "dims": [-1]},
        ],
    });
    for path in ["/v2/models/echo/config", &format!("/v2/models/echo/versions/{VERSION}/config")] {
        assert_eq!(get(path).await, (200, config.clone()));
    }
    assert_eq!(get("/v2/models/other/config").await.0, 404);
}

#[tokio::test]
async fn readiness_is_in_the_status() {
    for (is_ready, expected) in [(true, StatusCode::OK), (false, StatusCode::SERVICE_UNAVAILABLE)] {
        for (path, body) in [
            ("/v2/health/ready", json!({"ready": is_ready})),
            ("/v2/models/echo/ready", json!({"name": "echo", "ready": is_ready})),
        ] {
            let response = send(is_ready, Request::get(path).body(Body::empty()).unwrap()).await;
            assert_eq!((response.status, response.json()), (expected.as_u16(), body));
        }
    }
    let live = send(false, Request::get("/v2/health/live").body(Body::empty()).unwrap()).await;
    assert_eq!((live.status, live.json()), (200, json!({"live": true})));
}
