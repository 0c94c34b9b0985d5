//! Where a model comes from.

use std::collections::BTreeMap;

use crate::{EncoderIdentity, InputTemplate};

/// The origin of a model, and what its inputs must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// The encoder whose vectors it was fitted on. Vectors of any other encoder must not be given
    /// to it.
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
