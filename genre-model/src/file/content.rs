//! The content of a model file.

use crate::{Mlp, Provenance, Thresholds, WordWeights};

/// The parts of a model, whether or not they fit together.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) labels: Vec<String>,
    pub(crate) mlp: Mlp,
    pub(crate) words: Option<WordWeights>,
    pub(crate) thresholds: Thresholds,
    pub(crate) provenance: Provenance,
}
