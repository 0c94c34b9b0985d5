//! Where a model comes from.

use std::collections::BTreeMap;

use crate::{EncoderIdentity, InputTemplate};

/// The origin of a model, and the requirements on its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// The encoder whose vectors the model was fitted on. The model must not be given vectors of
    /// another encoder.
    pub encoder: EncoderIdentity,
    /// How a movie becomes the text to encode.
    pub input_template: InputTemplate,
    /// SHA-256 over the movies it was fitted on.
    pub data_digest: String,
    /// The rule that kept the test movies out of the fit.
    pub split_rule: String,
    /// The hyper-parameters of the fit.
    pub hyper_parameters: BTreeMap<String, String>,
    /// Metrics measured when it was fitted, such as `validation_micro_f1`.
    pub metrics: BTreeMap<String, f64>,
}
