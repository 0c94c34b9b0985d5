//! A model that returns its texts.
#![allow(unreachable_pub, dead_code, reason = "each test binary uses a part of it")]

use open_inference::{
    Call, Datatype, Description, Elements, Inference, Inferred, Model, OutputTensor, ServerDescription,
    TensorDescription,
};
use service_kit::ApiError;

/// The version of the model.
pub const VERSION: &str = "1.4.0";
/// Bytes of the largest request.
pub const LIMIT: usize = 1 << 20;

/// Returns each text with its suffix, if any, and the length of both.
#[derive(Clone)]
pub struct Echo {
    pub is_ready: bool,
}

impl Default for Echo {
    fn default() -> Self {
        Self { is_ready: true }
    }
}

impl Model for Echo {
    fn server(&self) -> ServerDescription {
        ServerDescription { name: "echo-svc", version: "0.1.0" }
    }

    fn description(&self) -> Description {
        Description {
            name: "echo".to_owned(),
            version: VERSION.to_owned(),
            platform: "test",
            inputs: vec![
                TensorDescription::new("TEXT", Datatype::Bytes, &[None]),
                TensorDescription::optional("SUFFIX", Datatype::Bytes, &[None]),
            ],
            outputs: vec![
                TensorDescription::new("ECHO", Datatype::Bytes, &[None]),
                TensorDescription::new("LENGTH", Datatype::Int32, &[None]),
            ],
        }
    }

    fn is_ready(&self) -> bool {
        self.is_ready
    }

    async fn infer(&self, inference: Inference, _call: Call) -> Result<Inferred, ApiError> {
        if inference.parameters.contains_key("fail") {
            return Err(ApiError::invalid("TEXT[1]", "EMPTY_TEXT", "expected a text"));
        }
        let is_replaced = inference.parameters.contains_key("replace");
        let mut inputs = inference.inputs.into_iter();
        let texts = inputs.next().flatten().unwrap_or_default();
        let mut suffixes = inputs.next().flatten().unwrap_or_default().into_iter();
        let echo: Vec<_> =
            texts.into_iter().map(|text| text + &suffixes.next().unwrap_or_default()).collect();
        let (shape, lengths) =
            (vec![echo.len()], echo.iter().map(|text| i32::try_from(text.len()).unwrap()).collect());
        Ok(Inferred {
            version: if is_replaced { "2.0.0".to_owned() } else { VERSION.to_owned() },
            outputs: vec![
                OutputTensor { name: "ECHO", shape: shape.clone(), elements: Elements::Texts(echo) },
                OutputTensor { name: "LENGTH", shape, elements: Elements::Int32(lengths) },
            ],
        })
    }
}
