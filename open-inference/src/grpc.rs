//! `inference.GRPCInferenceService`.

use std::collections::HashMap;

use proto::inference::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use proto::inference::infer_parameter::ParameterChoice;
use proto::inference::model_infer_request::InferInputTensor;
use proto::inference::model_infer_response::InferOutputTensor;
use proto::inference::model_metadata_response::TensorMetadata;
use proto::inference::{
    InferParameter, InferTensorContents, ModelConfig, ModelConfigRequest, ModelConfigResponse,
    ModelInferRequest, ModelInferResponse, ModelInput, ModelMetadataRequest, ModelMetadataResponse,
    ModelOutput, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};
use service_kit::{ApiError, Caller, Deadline};
use tonic::{Request, Response, Status};

use crate::model::{self, Call, Description, Inferred, Input, Model, Parameter, reject_unsupported};
use crate::tensor::{Contents, Elements, TensorDescription, wire_size, wrong_contents};

/// The methods that need no API key: they are the probes of the protocol.
pub const OPEN_METHODS: &[&str] =
    &["/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady"];

/// The handlers. They translate between messages and a [`Model`].
#[derive(Debug, Clone)]
pub struct OpenInference<M>(M);

impl<M: Model> OpenInference<M> {
    /// Creates handlers that run `model`.
    #[must_use]
    pub fn new(model: M) -> Self {
        Self(model)
    }

    /// Wraps the handlers as a tonic service for messages of at most `max_message_bytes`.
    #[must_use]
    pub fn into_grpc(self, max_message_bytes: usize) -> GrpcInferenceServiceServer<Self> {
        GrpcInferenceServiceServer::new(self).max_decoding_message_size(max_message_bytes)
    }
}

#[tonic::async_trait]
impl<M: Model> GrpcInferenceService for OpenInference<M> {
    async fn server_live(
        &self,
        _request: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _request: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.0.is_ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let request = request.into_inner();
        self.0.description().check(&request.name, &request.version)?;
        Ok(Response::new(ModelReadyResponse { ready: self.0.is_ready() }))
    }

    async fn server_metadata(
        &self,
        _request: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        let server = self.0.server();
        Ok(Response::new(ServerMetadataResponse {
            name: server.name.to_owned(),
            version: server.version.to_owned(),
            extensions: model::EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let model = self.0.description();
        model.check(&request.name, &request.version)?;
        Ok(Response::new(ModelMetadataResponse {
            name: model.name,
            versions: vec![model.version],
            platform: model.platform.to_owned(),
            inputs: model.inputs.iter().map(metadata).collect(),
            outputs: model.outputs.iter().map(metadata).collect(),
        }))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let request = request.into_inner();
        let model = self.0.description();
        model.check(&request.name, &request.version)?;
        Ok(Response::new(ModelConfigResponse { config: Some(config(&model)) }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let call = Call { caller: Caller::of(&request), deadline: Deadline::of(&request) };
        let message = request.into_inner();
        let (id, is_raw) = (message.id.clone(), !message.raw_input_contents.is_empty());
        let request = read(message)?;
        let model_name = request.model.clone();
        let inferred = model::infer(&self.0, request, call).await?;
        Ok(Response::new(response(model_name, id, inferred, is_raw)))
    }
}

fn metadata(tensor: &TensorDescription) -> TensorMetadata {
    let datatype = tensor.datatype.name().to_owned();
    TensorMetadata { name: tensor.name.to_owned(), datatype, shape: tensor.wire_shape() }
}

/// Describes a model as a configuration of Triton does.
pub(crate) fn config(model: &Description) -> ModelConfig {
    let input = model.inputs.iter().map(|tensor| ModelInput {
        name: tensor.name.to_owned(),
        data_type: tensor.datatype.in_config().into(),
        dims: tensor.wire_shape(),
        optional: tensor.is_optional,
    });
    let output = model.outputs.iter().map(|tensor| ModelOutput {
        name: tensor.name.to_owned(),
        data_type: tensor.datatype.in_config().into(),
        dims: tensor.wire_shape(),
    });
    ModelConfig {
        name: model.name.clone(),
        platform: model.platform.to_owned(),
        // Triton would add a dimension to every tensor, and the labels have none for the batch.
        max_batch_size: 0,
        input: input.collect(),
        output: output.collect(),
    }
}

/// Reads a request from its message.
fn read(message: ModelInferRequest) -> Result<model::Request, ApiError> {
    let raw = message.raw_input_contents;
    if !raw.is_empty() && raw.len() != message.inputs.len() {
        let description =
            format!("expected one for each input ({}), found {}", message.inputs.len(), raw.len());
        return Err(wrong_contents("raw_input_contents", description));
    }
    for (place, output) in message.outputs.iter().enumerate() {
        reject_unsupported("outputs", place, &output.parameters)?;
    }
    let mut raw = raw.into_iter();
    let inputs = message.inputs.into_iter().enumerate().map(|(place, input)| {
        reject_unsupported("inputs", place, &input.parameters)?;
        let raw = raw.next();
        let InferInputTensor { name, datatype, shape, contents, .. } = input;
        let contents = match (raw, contents) {
            (Some(_), Some(contents)) if contents != InferTensorContents::default() => {
                let description = "expected either contents or raw_input_contents, found both";
                return Err(wrong_contents(&format!("inputs[{place}].contents"), description));
            }
            (Some(raw), _) => Contents::Raw(raw),
            (None, None) => Contents::Elements(Vec::new()),
            (None, Some(contents)) => typed(contents),
        };
        Ok(Input { name, datatype, shape, contents })
    });
    Ok(model::Request {
        model: message.model_name,
        version: message.model_version,
        inputs: inputs.collect::<Result<_, _>>()?,
        outputs: message.outputs.into_iter().map(|output| output.name).collect(),
        parameters: message.parameters.into_iter().map(|(name, value)| (name, parameter(value))).collect(),
    })
}

fn typed(mut contents: InferTensorContents) -> Contents {
    let elements = std::mem::take(&mut contents.bytes_contents);
    if contents == InferTensorContents::default() { Contents::Elements(elements) } else { Contents::Other }
}

fn parameter(parameter: InferParameter) -> Parameter {
    match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
        Some(ParameterChoice::Int64Param(value)) => Parameter::Int(value.into()),
        Some(ParameterChoice::Uint64Param(value)) => Parameter::Int(value.into()),
        Some(ParameterChoice::DoubleParam(value)) => Parameter::Double(value),
        Some(ParameterChoice::StringParam(value)) => Parameter::Text(value),
        None => Parameter::Other,
    }
}

/// Writes a response: raw if the request was.
fn response(model_name: String, id: String, inferred: Inferred, is_raw: bool) -> ModelInferResponse {
    let mut outputs = Vec::with_capacity(inferred.outputs.len());
    let mut raw_output_contents = Vec::new();
    for tensor in inferred.outputs {
        let datatype = tensor.elements.datatype().name().to_owned();
        let contents = if is_raw {
            raw_output_contents.push(tensor.elements.to_raw().into());
            None
        } else {
            Some(contents(tensor.elements))
        };
        outputs.push(InferOutputTensor {
            name: tensor.name.to_owned(),
            datatype,
            shape: tensor.shape.into_iter().map(wire_size).collect(),
            parameters: HashMap::new(),
            contents,
        });
    }
    ModelInferResponse {
        model_name,
        model_version: inferred.version,
        id,
        parameters: HashMap::new(),
        outputs,
        raw_output_contents,
    }
}

fn contents(elements: Elements) -> InferTensorContents {
    let empty = InferTensorContents::default();
    match elements {
        Elements::Bool(values) => InferTensorContents { bool_contents: values, ..empty },
        Elements::Int32(values) => InferTensorContents { int_contents: values, ..empty },
        Elements::Fp32(values) => InferTensorContents { fp32_contents: values, ..empty },
        Elements::Texts(values) => {
            let values = values.into_iter().map(String::into_bytes).collect();
            InferTensorContents { bytes_contents: values, ..empty }
        }
    }
}
