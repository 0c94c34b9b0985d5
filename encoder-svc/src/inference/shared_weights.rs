//! The weights of a graph, held in memory once for all sessions.
//!
//! By default each session has its own copy of every weight, and another copy of the weights that
//! its kernels reorder ("prepack"). ONNX Runtime shares both if the program supplies the weights
//! (`AddInitializer` and `PrepackedWeightsContainer`). To supply them, this module reads them from
//! the graph's file.

use std::path::Path;
use std::sync::Arc;

use ort::session::builder::{PrepackedWeights, SessionBuilder};
use ort::value::{DynValue, Tensor};
use prost::Message;

/// Smaller weights, in bytes, are not worth sharing.
const SMALLEST: usize = 4 << 10;

/// The part of ONNX's `ModelProto` that holds weights, with the field numbers of `onnx.proto`. A
/// crate with all of ONNX's messages would decode the graph's nodes too.
#[derive(Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

#[derive(Message)]
struct Graph {
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Initializer>,
}

#[derive(Message)]
struct Initializer {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    /// Little-endian values. ONNX's other fields for values hold small weights, which stay in the
    /// graph.
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

// Values of `TensorProto.DataType`.
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT8: i32 = 3;

/// The weights of one graph, shared by its sessions.
pub struct SharedWeights {
    initializers: Vec<(String, Arc<DynValue>)>,
    prepacked: PrepackedWeights,
}

/// The graph's weights cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// The file is not an ONNX model.
    #[error("not an ONNX model: {0}")]
    Model(#[from] prost::DecodeError),
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
    /// Reads the larger weights of the graph in the file `model`.
    pub fn read(model: &Path) -> Result<Self, WeightsError> {
        let model = Model::decode(std::fs::read(model)?.as_slice())?;
        let initializers = model.graph.map(|graph| graph.initializers).unwrap_or_default();
        let mut shared = Vec::new();
        for weight in initializers {
            if weight.raw_data.len() < SMALLEST {
                continue;
            }
            let (name, data_type) = (weight.name.clone(), weight.data_type);
            let value = match data_type {
                FLOAT => {
                    let (floats, _) = weight.raw_data.as_chunks::<4>();
                    let floats: Vec<_> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                    Tensor::from_array((weight.dims, floats)).map(Tensor::into_dyn)
                }
                UINT8 => Tensor::from_array((weight.dims, weight.raw_data)).map(Tensor::into_dyn),
                INT8 => {
                    let bytes: Vec<_> = weight.raw_data.iter().map(|byte| byte.cast_signed()).collect();
                    Tensor::from_array((weight.dims, bytes)).map(Tensor::into_dyn)
                }
                // Other types, such as indices, are small and stay in the graph.
                _ => continue,
            };
            let value = value.map_err(|source| WeightsError::Weight { name: name.clone(), source })?;
            shared.push((name, Arc::new(value)));
        }
        Ok(Self { initializers: shared, prepacked: PrepackedWeights::new() })
    }

    /// Makes a session use these weights instead of its own copies.
    pub(crate) fn share_with(&self, builder: SessionBuilder) -> Result<SessionBuilder, ort::Error> {
        let mut builder = builder.with_prepacked_weights(&self.prepacked)?;
        for (name, value) in &self.initializers {
            builder = builder.with_initializer(name, value.clone())?;
        }
        Ok(builder)
    }
}
