//! The values that decide the content of a vectors file.

use serde::{Deserialize, Serialize};

use crate::data::vectors_file::VectorsHeader;

/// The identity that the vectors file, chunks and shards of a job share, in the form of their
/// manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VectorsJob {
    encoder: String,
    encoder_fingerprint: String,
    dimension: usize,
    input_template: String,
    data_digest: String,
}

impl From<&VectorsHeader> for VectorsJob {
    fn from(header: &VectorsHeader) -> Self {
        Self {
            encoder: header.encoder.to_string(),
            encoder_fingerprint: header.encoder.fingerprint.to_string(),
            dimension: header.dimension,
            input_template: header.template.to_string(),
            data_digest: header.data_digest.clone(),
        }
    }
}
