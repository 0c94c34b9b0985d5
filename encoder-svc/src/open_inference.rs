//! The bundle as a model of the Open Inference Protocol.

use open_inference::{
    Datatype, Description, Elements, Inference, Inferred, Model, OutputTensor, Parameter, ServerDescription,
    TensorDescription,
};
use service_kit::{ApiError, Readiness};

use crate::bundle;
use crate::limited_encoder::LimitedEncoder;
use crate::scheduler::entry::{Class, Reply};

/// The name of the input, which errors name, too.
const TEXT: &str = "TEXT";
/// The parameter of a request that says in which queue its texts wait.
const PRIORITY: &str = "priority";

/// An encoder as a model of the protocol; the bundle's id is its name. Clones share it.
#[derive(Clone)]
pub(crate) struct Bundle {
    encoder: LimitedEncoder,
    readiness: Readiness,
}

impl Bundle {
    /// Returns a model that is ready while `readiness` says so.
    pub(crate) fn new(encoder: LimitedEncoder, readiness: Readiness) -> Self {
        Self { encoder, readiness }
    }
}

impl Model for Bundle {
    fn server(&self) -> ServerDescription {
        ServerDescription { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") }
    }

    fn description(&self) -> Description {
        description(self.encoder.encoder().description())
    }

    fn is_ready(&self) -> bool {
        self.readiness.get()
    }

    async fn infer(&self, inference: Inference, call: open_inference::Call) -> Result<Inferred, ApiError> {
        let class = class(inference.parameters.get(PRIORITY))?;
        let texts = inference.inputs.into_iter().next().flatten().unwrap_or_default();
        let replies = self.encoder.encode(TEXT, texts, class, &call.caller, call.deadline).await?;
        let bundle = self.encoder.encoder().description();
        Ok(Inferred { version: bundle.version.clone(), outputs: outputs(&replies, bundle.dimension) })
    }
}

/// Describes a bundle as a model of the protocol.
pub(crate) fn description(bundle: &bundle::Description) -> Description {
    Description {
        name: bundle.id.clone(),
        version: bundle.version.clone(),
        platform: "onnxruntime_onnx",
        inputs: vec![TensorDescription::new(TEXT, Datatype::Bytes, &[None])],
        outputs: vec![
            TensorDescription::new("VECTOR", Datatype::Fp32, &[None, Some(bundle.dimension)]),
            TensorDescription::new("TOKENS", Datatype::Int32, &[None]),
            TensorDescription::new("TRUNCATED", Datatype::Bool, &[None]),
        ],
    }
}

/// Returns the class that a request asks for. The numbers are those of our own API, and as in
/// Triton, 1 is the highest priority and 0 the default one.
fn class(priority: Option<&Parameter>) -> Result<Class, ApiError> {
    let found = match priority {
        None | Some(Parameter::Int(0 | 1)) => return Ok(Class::Online),
        Some(Parameter::Int(2)) => return Ok(Class::Bulk),
        Some(Parameter::Text(name)) if name == "online" => return Ok(Class::Online),
        Some(Parameter::Text(name)) if name == "bulk" => return Ok(Class::Bulk),
        Some(Parameter::Int(number)) => number.to_string(),
        Some(Parameter::Text(name)) => format!("{:?}", name.chars().take(100).collect::<String>()),
        Some(Parameter::Bool(_) | Parameter::Double(_) | Parameter::Other) => "another value".to_owned(),
    };
    let description = format!("expected \"online\" or 1, or \"bulk\" or 2, found {found}");
    Err(ApiError::invalid(format!("parameters[{PRIORITY}]"), "INVALID_PARAMETER", description))
}

fn outputs(replies: &[Reply], dimension: usize) -> Vec<OutputTensor> {
    let rows = replies.len();
    let mut values = Vec::with_capacity(replies.len() * dimension);
    for reply in replies {
        values.extend_from_slice(&reply.vector);
    }
    let tokens = replies.iter().map(|reply| i32::try_from(reply.token_count).unwrap_or(i32::MAX)).collect();
    let truncated = replies.iter().map(|reply| reply.truncated).collect();
    vec![
        OutputTensor { name: "VECTOR", shape: vec![rows, dimension], elements: Elements::Fp32(values) },
        OutputTensor { name: "TOKENS", shape: vec![rows], elements: Elements::Int32(tokens) },
        OutputTensor { name: "TRUNCATED", shape: vec![rows], elements: Elements::Bool(truncated) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_has_the_names_and_numbers_of_our_own_api() {
        let of = |parameter| class(Some(&parameter));
        let text = |name: &str| Parameter::Text(name.to_owned());
        assert_eq!(class(None), Ok(Class::Online));
        for online in [Parameter::Int(0), Parameter::Int(1), text("online")] {
            assert_eq!(of(online), Ok(Class::Online));
        }
        for bulk in [Parameter::Int(2), text("bulk")] {
            assert_eq!(of(bulk), Ok(Class::Bulk));
        }
        for wrong in [
            Parameter::Int(3),
            Parameter::Int(-1),
            text("Bulk"),
            Parameter::Bool(true),
            Parameter::Double(1.0),
        ] {
            assert_eq!(of(wrong).unwrap_err().reason(), "INVALID_PARAMETER");
        }
    }
}
