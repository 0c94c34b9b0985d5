//! `ModelInfer` of the Open Inference Protocol, from the bytes of a message or of a body of REST to
//! the texts that a model gets, or a rejection.

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use open_inference::{
    Call, Datatype, Description, Elements, Inference, Inferred, Model, OPEN_METHODS, OpenInference,
    OutputTensor, ServerDescription, TensorDescription,
};
use prost::Message as _;
use proto::inference::model_infer_request::InferInputTensor;
use proto::inference::{InferTensorContents, ModelInferRequest, ModelInferResponse};
use serde_json::Value;
use service_kit::{ApiError, BodyLimits, Drain, GrpcServer, MemoryBudget, MessageBudget, Metrics, Shutdown};
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use crate::harness::allocation::bounded;
use crate::harness::grpc::{Reply, call, frame};
use crate::harness::inputs::seed_with_mode;
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "infer_request",
    check,
    seeds,
    dictionary: &[
        "\u{2a}\0",
        "\u{2a}\u{2}",
        "\u{3a}\u{4}",
        "\0\0\0\u{80}",
        "\u{1}\0\0\0",
        "TEXT",
        "TITLE",
        "BYTES",
        "ECHO",
        "echo",
        "\"inputs\"",
        "\"outputs\"",
        "\"parameters\"",
        "{\"binary_data_size\": 2147483648}",
        "\"shape\": [2147483648]",
        "\"data\": [[\"",
        "9223372036854775807",
        "-1",
        "null",
        "]",
    ],
    max_len: 4096,
    cases: 3000,
};

/// Bytes of the largest request.
const MAX_BYTES: usize = 4096;
/// The most fields of a message.
const MAX_FIELDS: usize = 64;

/// Returns its texts, each behind its title.
#[derive(Clone)]
struct Echo;

impl Model for Echo {
    fn server(&self) -> ServerDescription {
        ServerDescription { name: "echo", version: "0" }
    }

    fn description(&self) -> Description {
        Description {
            name: "echo".to_owned(),
            version: "1".to_owned(),
            platform: "fuzz",
            inputs: vec![
                TensorDescription::new("TEXT", Datatype::Bytes, &[None]),
                TensorDescription::optional("TITLE", Datatype::Bytes, &[None]),
            ],
            outputs: vec![TensorDescription::new("ECHO", Datatype::Bytes, &[None])],
        }
    }

    fn is_ready(&self) -> bool {
        true
    }

    async fn infer(&self, inference: Inference, _call: Call) -> Result<Inferred, ApiError> {
        let mut inputs = inference.inputs.into_iter();
        let texts = inputs.next().flatten().expect("the input is not optional");
        let titles = inputs.next().flatten();
        assert!(titles.as_ref().is_none_or(|titles| titles.len() == texts.len()), "one title a text");
        let mut titles = titles.into_iter().flatten();
        let echo: Vec<_> = texts.into_iter().map(|text| titles.next().unwrap_or_default() + &text).collect();
        let outputs =
            vec![OutputTensor { name: "ECHO", shape: vec![echo.len()], elements: Elements::Texts(echo) }];
        Ok(Inferred { version: "1".to_owned(), outputs })
    }
}

struct Served {
    runtime: Runtime,
    channel: Channel,
    router: Router,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let inside = runtime.enter();
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, Drain::default(), Metrics::default());
    let service = OpenInference::new(Echo).into_grpc(MAX_BYTES);
    let server = server.expect("the descriptors are valid").with_service(service);
    let channel = server.with_open_methods(OPEN_METHODS).in_memory(Shutdown::new());
    let budget = MessageBudget::new(MemoryBudget::for_messages_of(MAX_BYTES));
    let limits = BodyLimits { timeout: Duration::from_secs(20), max_bytes: MAX_BYTES, budget };
    let router = open_inference::routes(Echo, None, limits);
    drop(inside);
    Served { runtime, channel, router }
});

/// The first byte selects the transport: a message of gRPC, a body of JSON, or a body whose second
/// and third byte say how many of the others are JSON.
fn check(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    match mode % 3 {
        0 => message(data),
        1 => body(data, None),
        _ => {
            let Some((length, data)) = data.split_first_chunk::<2>() else { return };
            body(data, Some(u16::from_le_bytes(*length)));
        }
    }
}

fn message(data: &[u8]) {
    let path = "/inference.GRPCInferenceService/ModelInfer";
    let reply: Reply =
        bounded(data.len(), || SERVED.runtime.block_on(call(SERVED.channel.clone(), path, &[], frame(data))));
    if let Some(texts) = expected(data) {
        let response: ModelInferResponse = reply.message();
        assert_eq!(response.outputs[0].shape, [i64::try_from(texts.len()).unwrap_or_default()]);
        let echo = match response.raw_output_contents.first() {
            Some(raw) => elements(raw).expect("a reply has whole elements"),
            None => response.outputs[0].contents.clone().unwrap_or_default().bytes_contents,
        };
        assert_eq!(echo, texts.into_iter().map(String::into_bytes).collect::<Vec<_>>());
    } else {
        let code = reply.status.code();
        assert!(matches!(code, Code::InvalidArgument | Code::NotFound), "{:?}", reply.status);
        assert!(reply.status.get_details_error_info().is_some_and(|info| !info.reason.is_empty()));
    }
}

/// An independent implementation of the documented rules: the texts that the model returns, or
/// `None` for a request that must be rejected.
fn expected(data: &[u8]) -> Option<Vec<String>> {
    let request = ModelInferRequest::decode(data).ok().filter(|_| fields(data) <= MAX_FIELDS)?;
    let is_known = request.model_name == "echo" && matches!(request.model_version.as_str(), "" | "1");
    let is_wanted = request.outputs.len() <= 1 && request.outputs.iter().all(|output| output.name == "ECHO");
    let forbidden = ["shared_memory_region", "classification"];
    let is_plain = request
        .inputs
        .iter()
        .map(|input| &input.parameters)
        .chain(request.outputs.iter().map(|output| &output.parameters))
        .all(|parameters| forbidden.iter().all(|name| !parameters.contains_key(*name)));
    let raw = &request.raw_input_contents;
    let has_raw_of_each = raw.is_empty() || raw.len() == request.inputs.len();
    if !(is_known && is_wanted && is_plain && has_raw_of_each && !request.inputs.is_empty()) {
        return None;
    }
    let mut inputs: [Option<Vec<String>>; 2] = [None, None];
    for (index, input) in request.inputs.iter().enumerate() {
        let slot = ["TEXT", "TITLE"].iter().position(|name| *name == input.name)?;
        let texts = texts(input, raw.get(index).map(|raw| &raw[..]))?;
        if inputs[slot].replace(texts).is_some() {
            return None;
        }
    }
    let [Some(texts), titles] = inputs else { return None };
    let titles = titles.unwrap_or_else(|| vec![String::new(); texts.len()]);
    (titles.len() == texts.len())
        .then(|| titles.into_iter().zip(texts).map(|(title, text)| title + &text).collect())
}

fn texts(input: &InferInputTensor, raw: Option<&[u8]>) -> Option<Vec<String>> {
    let contents = input.contents.clone().unwrap_or_default();
    let only_bytes = InferTensorContents {
        bytes_contents: contents.bytes_contents.clone(),
        ..InferTensorContents::default()
    };
    let found = match raw {
        Some(raw) if contents == InferTensorContents::default() => elements(raw)?,
        None if contents == only_bytes => contents.bytes_contents,
        _ => return None,
    };
    let is_column = matches!(input.shape[..], [_] | [_, 1]);
    let has_shape = is_column && input.shape[0] == i64::try_from(found.len()).ok()?;
    (input.datatype == "BYTES" && has_shape).then_some(())?;
    found.into_iter().map(|bytes| String::from_utf8(bytes).ok()).collect()
}

/// The elements of a raw tensor of BYTES.
fn elements(mut raw: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut elements = Vec::new();
    while let Some((length, rest)) = raw.split_first_chunk::<4>() {
        let (element, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        elements.push(element.to_vec());
        raw = rest;
    }
    raw.is_empty().then_some(elements)
}

/// The number of fields of a message that can be decoded.
fn fields(mut data: &[u8]) -> usize {
    let mut count = 0;
    while !data.is_empty() {
        let (tag, wire) = prost::encoding::decode_key(&mut data).expect("the message can be decoded");
        prost::encoding::skip_field(wire, tag, &mut data, prost::encoding::DecodeContext::default())
            .expect("the message can be decoded");
        count += 1;
    }
    count
}

fn body(data: &[u8], json_length: Option<u16>) {
    let mut request = http::Request::post("/v2/models/echo/infer").body(Body::from(data.to_vec()));
    if let (Ok(request), Some(length)) = (&mut request, json_length) {
        request.headers_mut().insert("inference-header-content-length", length.into());
    }
    let request = request.expect("the path is valid");
    let (status, json_length, body) = bounded(data.len(), || {
        SERVED.runtime.block_on(async {
            let response = SERVED.router.clone().oneshot(request).await.expect("the router does not fail");
            let length = response.headers().get("inference-header-content-length").cloned();
            let length = length.map(|length| length.to_str().unwrap_or_default().parse::<usize>());
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
            (status, length, body.expect("the body is in memory"))
        })
    });
    let json_length = json_length.map_or(body.len(), |length| length.expect("a number of bytes"));
    let json: Value = serde_json::from_slice(&body[..json_length]).expect("a reply begins with JSON");
    if status != 200 {
        assert!(matches!(status, 400 | 413), "{status}: {json}");
        let keys: Vec<_> = json.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["error"]);
        return assert!(json["error"].as_str().is_some_and(|error| !error.is_empty()));
    }
    let output = &json["outputs"][0];
    let found = match output["data"].as_array() {
        Some(data) => data.len(),
        None => elements(&body[json_length..]).expect("a reply has whole elements").len(),
    };
    assert_eq!(output["shape"], serde_json::json!([found]));
}

fn seeds() -> Vec<Vec<u8>> {
    let raw = |texts: &[&str]| -> Vec<u8> {
        texts.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()).collect()
    };
    let input = |name: &str, shape: &[i64], contents: Option<&[&str]>| InferInputTensor {
        name: name.to_owned(),
        datatype: "BYTES".to_owned(),
        shape: shape.to_vec(),
        contents: contents.map(|texts| InferTensorContents {
            bytes_contents: texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
            ..InferTensorContents::default()
        }),
        ..InferInputTensor::default()
    };
    let request = |inputs: Vec<InferInputTensor>, raw: Vec<Vec<u8>>| {
        let raw_input_contents = raw.into_iter().map(Into::into).collect();
        let model_name = "echo".to_owned();
        seed_with_mode(
            0,
            &ModelInferRequest { model_name, inputs, raw_input_contents, ..Default::default() }
                .encode_to_vec(),
        )
    };
    let json = |inputs: &str| seed_with_mode(1, format!(r#"{{"id": "7", "inputs": [{inputs}]}}"#).as_bytes());
    let binary = |header: &str, raw: &[u8]| {
        let length = u16::try_from(header.len()).expect("seeds are short");
        seed_with_mode(2, &[&length.to_le_bytes()[..], header.as_bytes(), raw].concat())
    };
    vec![
        request(vec![input("TEXT", &[2], None)], vec![raw(&["A pilot.", "é 🎬"])]),
        request(
            vec![input("TITLE", &[2, 1], None), input("TEXT", &[2], None)],
            vec![raw(&["", "Reef"]), raw(&["a", "b"])],
        ),
        request(vec![input("TEXT", &[2], Some(&["A pilot.", "x"]))], Vec::new()),
        request(vec![input("TEXT", &[0], None)], vec![Vec::new()]),
        request(vec![input("TEXT", &[1 << 31], None)], vec![raw(&["x"])]),
        request(vec![input("TEXT", &[1], None)], vec![vec![0, 0, 0, 0x80, 1]]),
        request(vec![InferInputTensor::default(); MAX_FIELDS + 1], Vec::new()),
        json(
            r#"{"name": "TEXT", "datatype": "BYTES", "shape": [2], "data": [["A pilot."], ["\ud83c\udfac"]]}"#,
        ),
        json(r#"{"name": "TEXT", "datatype": "FP32", "shape": [1], "data": [1.5]}"#),
        json(r#"{"name": "TEXT", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}"#),
        binary(
            r#"{"parameters": {"binary_data_output": true}, "inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}]}"#,
            &raw(&["x"]),
        ),
        binary(
            r#"{"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}}], "outputs": [{"name": "ECHO", "parameters": {"binary_data": true}}]}"#,
            &raw(&["x", "y"]),
        ),
    ]
}
