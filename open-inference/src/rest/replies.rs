//! The JSON of responses other than those of inference.

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::Description;
use crate::tensor::TensorDescription;

/// Whether the process runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerLive {
    pub(super) live: bool,
}

/// Whether the service can run its model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerReady {
    pub(super) ready: bool,
}

/// The service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerMetadata {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// What it speaks besides the protocol.
    #[schema(value_type = Vec<String>)]
    pub(super) extensions: &'static [&'static str],
}

/// Whether a model can run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelReady {
    pub(super) name: String,
    pub(super) ready: bool,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelMetadata {
    pub(super) name: String,
    /// The versions that are served: the current one.
    pub(super) versions: Vec<String>,
    /// What runs the model.
    pub(super) platform: &'static str,
    pub(super) inputs: Vec<TensorMetadata>,
    pub(super) outputs: Vec<TensorMetadata>,
}

/// A tensor of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TensorMetadata {
    name: &'static str,
    #[schema(example = "BYTES")]
    datatype: &'static str,
    /// -1 is the size of the batch.
    shape: Vec<i64>,
}

impl TensorMetadata {
    pub(super) fn of(tensor: &TensorDescription) -> Self {
        Self { name: tensor.name, datatype: tensor.datatype.name(), shape: tensor.wire_shape() }
    }
}

/// A model, as a configuration of Triton describes it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelConfig {
    name: String,
    /// What runs the model.
    platform: &'static str,
    /// Always 0: the shapes include the size of the batch.
    max_batch_size: u32,
    input: Vec<ConfigInput>,
    output: Vec<ConfigOutput>,
}

/// An input of a model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelConfigInput)]
struct ConfigInput {
    #[serde(flatten)]
    tensor: ConfigOutput,
    /// Whether a request may leave it out.
    optional: bool,
}

/// An output of a model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelConfigOutput)]
struct ConfigOutput {
    name: &'static str,
    #[schema(example = "TYPE_STRING")]
    data_type: &'static str,
    /// -1 is the size of the batch.
    dims: Vec<i64>,
}

impl ModelConfig {
    pub(super) fn of(model: Description) -> Self {
        let tensor = |tensor: &TensorDescription| ConfigOutput {
            name: tensor.name,
            data_type: tensor.datatype.in_config().as_str_name(),
            dims: tensor.wire_shape(),
        };
        let input = model
            .inputs
            .iter()
            .map(|described| ConfigInput { tensor: tensor(described), optional: described.is_optional });
        Self {
            platform: model.platform,
            max_batch_size: 0,
            input: input.collect(),
            output: model.outputs.iter().map(tensor).collect(),
            name: model.name,
        }
    }
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceError)]
pub(super) struct Error {
    /// The expectation, and the value found.
    pub(super) error: String,
}
