//! What a service implements, and the checks of a request against the description of its model.

use std::collections::HashMap;
use std::future::Future;

use service_kit::{ApiError, Caller, Deadline};

use crate::tensor::{Contents, OutputTensor, TensorDescription, texts};

/// The extensions of Triton that the services speak: raw tensors over REST, and the model's
/// configuration.
pub(crate) const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "model_configuration"];

/// The one model of a service.
pub trait Model: Clone + Send + Sync + 'static {
    /// Describes the service.
    fn server(&self) -> ServerDescription;

    /// Describes the current model. All its inputs are texts.
    fn description(&self) -> Description;

    /// Whether the service can run the model now.
    fn is_ready(&self) -> bool;

    /// Runs the model on a batch, as a whole or not at all.
    fn infer(
        &self,
        inference: Inference,
        call: Call,
    ) -> impl Future<Output = Result<Inferred, ApiError>> + Send;
}

/// Describes a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerDescription {
    /// The name, such as `encoder-svc`.
    pub name: &'static str,
    /// The version.
    pub version: &'static str,
}

/// Describes a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The name.
    pub name: String,
    /// The current version, the only one that is served.
    pub version: String,
    /// What runs the model.
    pub platform: &'static str,
    /// The tensors of a request.
    pub inputs: Vec<TensorDescription>,
    /// The tensors of a response.
    pub outputs: Vec<TensorDescription>,
}

impl Description {
    /// Checks that a request means this model. An empty version means the current one.
    ///
    /// # Errors
    /// Returns [`ApiError::NotFound`] with the name and the version that are served.
    pub fn check(&self, name: &str, version: &str) -> Result<(), ApiError> {
        if name == self.name && (version.is_empty() || version == self.version) {
            return Ok(());
        }
        let found = if name == self.name {
            format!("version {}", quoted(version))
        } else {
            format!("model {}", quoted(name))
        };
        let message = format!("expected model {:?}, version {:?}; found {found}", self.name, self.version);
        Err(ApiError::NotFound { reason: "MODEL_NOT_FOUND", message })
    }
}

/// Whose call it is, and how long its client waits.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose share and quota the call uses.
    pub caller: Caller,
    /// When the response stops being useful.
    pub deadline: Deadline,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Double(f64),
    /// A text.
    Text(String),
    /// Something that is no parameter.
    Other,
}

/// A request that was checked against the description of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// The texts of each input of the description, in its order; `None` for one that was left out.
    /// All have the same number of texts.
    pub inputs: Vec<Option<Vec<String>>>,
    /// The parameters.
    pub parameters: HashMap<String, Parameter>,
}

/// What a model returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Inferred {
    /// The version that ran.
    pub version: String,
    /// All outputs of the description, in its order.
    pub outputs: Vec<OutputTensor>,
}

/// A request as a transport reads it.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) parameters: HashMap<String, Parameter>,
    pub(crate) inputs: Vec<Input>,
    /// The names of the outputs to return; all if there are none.
    pub(crate) outputs: Vec<String>,
}

/// An input as a transport reads it.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) contents: Contents,
}

/// Checks `request` and runs `model`. Returns the outputs that the request wants, in its order.
pub(crate) async fn infer<M: Model>(model: &M, request: Request, call: Call) -> Result<Inferred, ApiError> {
    let description = model.description();
    description.check(&request.model, &request.version)?;
    let wanted = wanted(&description.outputs, &request.outputs)?;
    let inputs = inputs(&description.inputs, request.inputs)?;
    let inference = Inference { inputs, parameters: request.parameters };
    let Inferred { version, outputs } = model.infer(inference, call).await?;
    if !request.version.is_empty() && version != request.version {
        // A new model was loaded since the check.
        Description { version, ..description }.check(&request.model, &request.version)?;
        return Err(ApiError::Internal { message: "expected another model version".to_owned() });
    }
    let mut outputs: Vec<_> = outputs.into_iter().map(Some).collect();
    let outputs = wanted.into_iter().filter_map(|index| outputs.get_mut(index)?.take()).collect();
    Ok(Inferred { version, outputs })
}

/// Returns the indices of the outputs that a request wants.
fn wanted(described: &[TensorDescription], names: &[String]) -> Result<Vec<usize>, ApiError> {
    if names.is_empty() {
        return Ok((0..described.len()).collect());
    }
    let mut indices = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let index = index_of(described, name).ok_or_else(|| unknown(described, "outputs", place, name))?;
        if indices.contains(&index) {
            return Err(duplicate("outputs", place, name));
        }
        indices.push(index);
    }
    Ok(indices)
}

/// Returns the texts of each described input.
fn inputs(described: &[TensorDescription], found: Vec<Input>) -> Result<Vec<Option<Vec<String>>>, ApiError> {
    let mut inputs: Vec<Option<Vec<String>>> = vec![None; described.len()];
    for (place, input) in found.into_iter().enumerate() {
        let index = index_of(described, &input.name)
            .ok_or_else(|| unknown(described, "inputs", place, &input.name))?;
        if inputs[index].is_some() {
            return Err(duplicate("inputs", place, &input.name));
        }
        let expected = described[index].datatype.name();
        if input.datatype != expected {
            let description = format!("expected the datatype {expected}, found {}", quoted(&input.datatype));
            return Err(ApiError::invalid(input.name, "WRONG_DATATYPE", description));
        }
        inputs[index] = Some(texts(&input.name, &input.shape, input.contents)?);
    }
    let mut rows = None;
    for (input, described) in inputs.iter().zip(described) {
        let Some(texts) = input else {
            if described.is_optional {
                continue;
            }
            let description = "expected this input, found none";
            return Err(ApiError::invalid(described.name, "MISSING_TENSOR", description));
        };
        let expected = *rows.get_or_insert(texts.len());
        if texts.len() != expected {
            let description = format!("expected one text for each row ({expected}), found {}", texts.len());
            return Err(ApiError::invalid(described.name, "LENGTHS_DIFFER", description));
        }
    }
    Ok(inputs)
}

fn index_of(described: &[TensorDescription], name: &str) -> Option<usize> {
    described.iter().position(|tensor| tensor.name == name)
}

fn unknown(described: &[TensorDescription], field: &str, place: usize, name: &str) -> ApiError {
    let names: Vec<_> = described.iter().map(|tensor| tensor.name).collect();
    let description = format!("expected one of {}, found {}", names.join(", "), quoted(name));
    ApiError::invalid(format!("{field}[{place}].name"), "UNKNOWN_TENSOR", description)
}

fn duplicate(field: &str, place: usize, name: &str) -> ApiError {
    let description = format!("expected each tensor once, found {} again", quoted(name));
    ApiError::invalid(format!("{field}[{place}].name"), "DUPLICATE_TENSOR", description)
}

/// Parameters of a tensor that its client would wait for in vain: elements in shared memory, and
/// Triton's classification of an output.
const UNSUPPORTED: [&str; 2] = ["shared_memory_region", "classification"];

/// Rejects parameters of a tensor that are in [`UNSUPPORTED`].
pub(crate) fn reject_unsupported<V>(
    field: &str,
    place: usize,
    parameters: &HashMap<String, V>,
) -> Result<(), ApiError> {
    let Some(name) = UNSUPPORTED.iter().find(|name| parameters.contains_key(**name)) else { return Ok(()) };
    let description = format!("expected no parameter {name:?}, which is not supported");
    Err(ApiError::invalid(format!("{field}[{place}].parameters"), "UNSUPPORTED_PARAMETER", description))
}

/// Returns the beginning of a text of a request, for an error.
pub(crate) fn quoted(text: &str) -> String {
    const QUOTED: usize = 100;
    format!("{:?}", text.chars().take(QUOTED).collect::<String>())
}
