//! The weights of a graph, held in memory once for all sessions.
//!
//! By default each session has its own copy of every weight, and another copy of the weights that
//! its kernels reorder ("prepack"). ONNX Runtime shares both if the program supplies the weights
//! (`AddInitializer` and `PrepackedWeightsContainer`). To supply them, this module reads them from
//! the graph's file, and keeps the graph without them for the sessions to load.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::session::Session;
use ort::session::builder::{PrepackedWeights, SessionBuilder};
use ort::value::{DynValue, Tensor};

use crate::inference::onnx_file::{self, Weight};

/// Smaller weights, in bytes, are not worth sharing.
const SMALLEST: usize = 4 << 10;

// Values of `TensorProto.DataType`.
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT8: i32 = 3;

/// The config entry of a session that names the folder of weights outside the graph.
const FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// The weights of one graph, shared by its sessions.
pub struct SharedWeights {
    /// The graph without these weights.
    graph: Vec<u8>,
    folder: PathBuf,
    initializers: Vec<(String, Arc<DynValue>)>,
    prepacked: PrepackedWeights,
}

/// The graph's weights cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read, or is not an ONNX model.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// The bytes of a weight do not fit its shape, or ONNX Runtime rejects it.
    #[error("weight {name}: {source}")]
    Weight {
        /// The weight.
        name: String,
        /// The error of ONNX Runtime.
        source: ort::Error,
    },
}

impl SharedWeights {
    /// Reads the graph and its larger weights from the file `model`.
    pub fn read(model: &Path) -> Result<Self, WeightsError> {
        // ONNX Runtime rejects a file that a link takes out of its folder.
        let model = model.canonicalize()?;
        let mut initializers = Vec::new();
        let graph = onnx_file::read(&model, |weight| {
            let name = &weight.name;
            let value =
                value(weight).map_err(|source| WeightsError::Weight { name: name.clone(), source })?;
            let is_taken = value.is_some();
            initializers.extend(value.map(|value| (name.clone(), Arc::new(value))));
            Ok::<_, WeightsError>(is_taken)
        })?;
        let folder = model.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { graph, folder, initializers, prepacked: PrepackedWeights::new() })
    }

    /// Makes a session that uses these weights instead of copies of its own.
    pub(crate) fn load(&self, builder: SessionBuilder) -> Result<Session, ort::Error> {
        let mut builder = builder
            .with_prepacked_weights(&self.prepacked)?
            .with_config_entry(FOLDER, self.folder.to_string_lossy())?;
        for (name, value) in &self.initializers {
            builder = builder.with_initializer(name, value.clone())?;
        }
        builder.commit_from_memory(&self.graph)
    }
}

/// Returns the values of a weight that is worth sharing.
fn value(weight: &Weight) -> Result<Option<DynValue>, ort::Error> {
    let (dims, bytes) = (weight.dims.clone(), weight.raw_data.as_ref());
    if bytes.len() < SMALLEST {
        return Ok(None);
    }
    let value = match weight.data_type {
        FLOAT => {
            let (floats, _) = bytes.as_chunks::<4>();
            let floats: Vec<_> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            Tensor::from_array((dims, floats))?.into_dyn()
        }
        UINT8 => Tensor::from_array((dims, bytes.to_vec()))?.into_dyn(),
        INT8 => {
            let bytes: Vec<_> = bytes.iter().map(|byte| byte.cast_signed()).collect();
            Tensor::from_array((dims, bytes))?.into_dyn()
        }
        // Other types, such as indices, are small and stay in the graph.
        _ => return Ok(None),
    };
    Ok(Some(value))
}
