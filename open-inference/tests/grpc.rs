//! The protocol over gRPC, in front of a model that needs no encoder.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Echo, LIMIT, VERSION};
use open_inference::{OPEN_METHODS, OpenInference};
use proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use proto::inference::infer_parameter::ParameterChoice;
use proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use proto::inference::{
    InferParameter, InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelReadyRequest, ServerLiveRequest, ServerMetadataRequest, ServerReadyRequest,
};
use service_kit::{Drain, GrpcServer, Metrics, Shutdown};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn client() -> GrpcInferenceServiceClient<Channel> {
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, Drain::default(), Metrics::default()).unwrap();
    let service = OpenInference::new(Echo::default()).into_grpc(LIMIT);
    let server = server.with_service(service).with_open_methods(OPEN_METHODS);
    GrpcInferenceServiceClient::new(server.in_memory(Shutdown::new()))
}

async fn infer(request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
    client().model_infer(request).await.map(tonic::Response::into_inner)
}

fn raw(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()).collect()
}

fn input(name: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: "BYTES".to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

/// A request with a raw `TEXT` of two elements.
fn request() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "echo".to_owned(),
        id: "7".to_owned(),
        inputs: vec![input("TEXT", &[2])],
        raw_input_contents: vec![raw(&["a", "bcd"]).into()],
        ..ModelInferRequest::default()
    }
}

fn typed(contents: InferTensorContents) -> ModelInferRequest {
    let mut request = request();
    request.raw_input_contents.clear();
    request.inputs[0].contents = Some(contents);
    request
}

fn bytes(texts: &[&str]) -> InferTensorContents {
    let bytes_contents = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    InferTensorContents { bytes_contents, ..InferTensorContents::default() }
}

fn text_parameter(value: &str) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::StringParam(value.to_owned())) }
}

fn wanted(names: &[&str]) -> Vec<InferRequestedOutputTensor> {
    let wanted = |name: &&str| InferRequestedOutputTensor { name: (*name).to_owned(), ..Default::default() };
    names.iter().map(wanted).collect()
}

#[tokio::test]
async fn raw_contents_get_raw_contents() {
    let response = infer(request()).await.unwrap();
    assert_eq!((response.model_name.as_str(), response.model_version.as_str()), ("echo", VERSION));
    assert_eq!(response.id, "7");
    let described: Vec<_> =
        response.outputs.iter().map(|o| (&o.name[..], &o.datatype[..], &o.shape[..])).collect();
    assert_eq!(described, [("ECHO", "BYTES", &[2][..]), ("LENGTH", "INT32", &[2][..])]);
    assert_eq!(response.raw_output_contents, [raw(&["a", "bcd"]), b"\x01\0\0\0\x03\0\0\0".to_vec()]);
    assert!(response.outputs.iter().all(|output| output.contents.is_none()));
}

#[tokio::test]
async fn typed_contents_get_typed_contents() {
    let response = infer(typed(bytes(&["a", "bcd"]))).await.unwrap();
    assert!(response.raw_output_contents.is_empty());
    assert_eq!(response.outputs[0].contents, Some(bytes(&["a", "bcd"])));
    let lengths = InferTensorContents { int_contents: vec![1, 3], ..InferTensorContents::default() };
    assert_eq!(response.outputs[1].contents, Some(lengths));
}

#[tokio::test]
async fn returns_the_wanted_outputs_in_their_order() {
    let response = infer(ModelInferRequest { outputs: wanted(&["LENGTH"]), ..request() }).await.unwrap();
    assert_eq!(response.outputs.len(), 1);
    assert_eq!(response.raw_output_contents.len(), 1);
    let both = ModelInferRequest { outputs: wanted(&["LENGTH", "ECHO"]), ..request() };
    let names: Vec<_> = infer(both).await.unwrap().outputs.into_iter().map(|output| output.name).collect();
    assert_eq!(names, ["LENGTH", "ECHO"]);
}

#[tokio::test]
async fn inputs_come_in_any_order_and_an_optional_one_may_be_missing() {
    let mut both = request();
    both.inputs.insert(0, input("SUFFIX", &[2, 1]));
    both.raw_input_contents.insert(0, raw(&["!", ""]).into());
    let response = infer(both).await.unwrap();
    assert_eq!(response.raw_output_contents[0], raw(&["a!", "bcd"]));
}

#[tokio::test]
async fn errors_name_the_wrong_tensor_or_parameter() {
    let change = |change: fn(&mut ModelInferRequest)| {
        let mut request = request();
        change(&mut request);
        request
    };
    let other = InferTensorContents { fp32_contents: vec![1.0, 2.0], ..InferTensorContents::default() };
    let both = InferTensorContents { fp32_contents: vec![1.0], ..bytes(&["a", "b"]) };
    let invalid =
        InferTensorContents { bytes_contents: vec![b"a".to_vec(), b"\xff".to_vec()], ..Default::default() };
    let cases = [
        (change(|r| r.inputs[0].name = "TEXTS".to_owned()), "inputs[0].name", "UNKNOWN_TENSOR"),
        (change(|r| r.inputs[0].datatype = "FP32".to_owned()), "TEXT", "WRONG_DATATYPE"),
        (change(|r| r.inputs[0].datatype.clear()), "TEXT", "WRONG_DATATYPE"),
        (change(|r| r.inputs[0].shape = vec![1 << 31]), "TEXT", "WRONG_CONTENTS"),
        (change(|r| r.inputs[0].shape = vec![i64::MAX, 1]), "TEXT", "WRONG_CONTENTS"),
        (change(|r| r.inputs[0].shape = vec![1, 2]), "TEXT", "WRONG_SHAPE"),
        (change(|r| r.inputs[0].shape = vec![-2]), "TEXT", "WRONG_SHAPE"),
        (change(|r| r.inputs[0].shape.clear()), "TEXT", "WRONG_SHAPE"),
        (change(|r| r.inputs[0].contents = Some(bytes(&["a"]))), "inputs[0].contents", "WRONG_CONTENTS"),
        (change(|r| r.raw_input_contents.push(b"x".to_vec().into())), "raw_input_contents", "WRONG_CONTENTS"),
        (change(|r| r.raw_input_contents.clear()), "TEXT", "WRONG_CONTENTS"),
        (change(|r| r.raw_input_contents[0] = raw(&["a"]).into()), "TEXT", "WRONG_CONTENTS"),
        (change(|r| r.raw_input_contents[0] = vec![255; 4].into()), "TEXT", "WRONG_CONTENTS"),
        (change(|r| r.inputs.clear()), "raw_input_contents", "WRONG_CONTENTS"),
        (ModelInferRequest { model_name: "echo".to_owned(), ..Default::default() }, "TEXT", "MISSING_TENSOR"),
        (typed(other), "TEXT", "WRONG_CONTENTS"),
        (typed(both), "TEXT", "WRONG_CONTENTS"),
        (typed(bytes(&["a"])), "TEXT", "WRONG_CONTENTS"),
        (typed(invalid), "TEXT[1]", "INVALID_ENCODING"),
        (ModelInferRequest { outputs: wanted(&["NONE"]), ..request() }, "outputs[0].name", "UNKNOWN_TENSOR"),
        (
            ModelInferRequest { outputs: wanted(&["ECHO"; 2]), ..request() },
            "outputs[1].name",
            "DUPLICATE_TENSOR",
        ),
        (
            change(|r| {
                r.inputs.push(input("TEXT", &[1]));
                r.raw_input_contents.push(raw(&["x"]).into());
            }),
            "inputs[1].name",
            "DUPLICATE_TENSOR",
        ),
        (
            change(|r| {
                r.inputs.push(input("SUFFIX", &[1]));
                r.raw_input_contents.push(raw(&["x"]).into());
            }),
            "SUFFIX",
            "LENGTHS_DIFFER",
        ),
        (
            change(|r| {
                _ = r.inputs[0].parameters.insert("shared_memory_region".to_owned(), text_parameter("x"));
            }),
            "inputs[0].parameters",
            "UNSUPPORTED_PARAMETER",
        ),
        (
            change(|r| _ = r.parameters.insert("fail".to_owned(), text_parameter("x"))),
            "TEXT[1]",
            "EMPTY_TEXT",
        ),
    ];
    for (request, field, reason) in cases {
        let status = infer(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}");
        let details = status.get_error_details();
        let found = &details.bad_request().unwrap().field_violations[0].field;
        assert_eq!(
            (found.as_str(), details.error_info().unwrap().reason.as_str()),
            (field, reason),
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn an_unknown_model_or_version_is_not_found() {
    let current = ModelInferRequest { model_version: VERSION.to_owned(), ..request() };
    assert!(infer(current).await.is_ok());
    for (name, version) in [("other", ""), ("echo", "1"), ("", ""), ("other", VERSION)] {
        let (name, version) = (name.to_owned(), version.to_owned());
        let errors = [
            infer(ModelInferRequest {
                model_name: name.clone(),
                model_version: version.clone(),
                ..request()
            })
            .await
            .err(),
            client()
                .model_ready(ModelReadyRequest { name: name.clone(), version: version.clone() })
                .await
                .err(),
            client()
                .model_metadata(ModelMetadataRequest { name: name.clone(), version: version.clone() })
                .await
                .err(),
            client().model_config(ModelConfigRequest { name, version }).await.err(),
        ];
        for status in errors.map(Option::unwrap) {
            assert_eq!(status.code(), Code::NotFound);
            assert_eq!(status.get_details_error_info().unwrap().reason, "MODEL_NOT_FOUND");
            assert!(status.message().contains("echo") && status.message().contains(VERSION), "{status:?}");
        }
    }
}

#[tokio::test]
async fn a_model_that_was_replaced_during_the_call_is_not_found() {
    let mut request = request();
    request.model_version = VERSION.to_owned();
    request.parameters.insert("replace".to_owned(), text_parameter("x"));
    assert_eq!(infer(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn describes_server_and_model() {
    let server = client().server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!((server.name.as_str(), server.extensions.len()), ("echo-svc", 2));
    let request = ModelMetadataRequest { name: "echo".to_owned(), version: String::new() };
    let model = client().model_metadata(request).await.unwrap().into_inner();
    assert_eq!(model.versions, [VERSION]);
    let described = |tensors: Vec<proto::inference::model_metadata_response::TensorMetadata>| {
        tensors.into_iter().map(|t| format!("{} {} {:?}", t.name, t.datatype, t.shape)).collect::<Vec<_>>()
    };
    assert_eq!(described(model.inputs), ["TEXT BYTES [-1]", "SUFFIX BYTES [-1]"]);
    assert_eq!(described(model.outputs), ["ECHO BYTES [-1]", "LENGTH INT32 [-1]"]);
}

#[tokio::test]
async fn describes_the_model_as_triton_does() {
    let request = ModelConfigRequest { name: "echo".to_owned(), version: VERSION.to_owned() };
    let config = client().model_config(request).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.name.as_str(), config.platform.as_str(), config.max_batch_size), ("echo", "test", 0));
    let inputs: Vec<_> = config
        .input
        .iter()
        .map(|input| (&*input.name, input.data_type().as_str_name(), &*input.dims, input.optional))
        .collect();
    assert_eq!(inputs, [("TEXT", "TYPE_STRING", &[-1][..], false), ("SUFFIX", "TYPE_STRING", &[-1], true)]);
    let outputs: Vec<_> =
        config.output.iter().map(|output| (&*output.name, output.data_type().as_str_name())).collect();
    assert_eq!(outputs, [("ECHO", "TYPE_STRING"), ("LENGTH", "TYPE_INT32")]);
}

#[tokio::test]
async fn only_probes_need_no_key() {
    let sha256 = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272".to_owned();
    let key = service_kit::ApiKeySettings { name: "k".to_owned(), sha256, ..Default::default() };
    let keys = service_kit::ApiKeys::new(&service_kit::AuthSettings { keys: vec![key] }).unwrap();
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, Drain::default(), Metrics::default()).unwrap();
    let server = server.with_keys(keys).with_service(OpenInference::new(Echo::default()).into_grpc(LIMIT));
    let channel = server.with_open_methods(OPEN_METHODS).in_memory(Shutdown::new());
    let mut client = GrpcInferenceServiceClient::new(channel);
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let ready = ModelReadyRequest { name: "echo".to_owned(), version: String::new() };
    assert_eq!(client.model_ready(ready).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(client.model_infer(request()).await.unwrap_err().code(), Code::Unauthenticated);
}
