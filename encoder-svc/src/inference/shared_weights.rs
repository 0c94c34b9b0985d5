//! A graph's weights, held once however many sessions run it.
//!
//! A session keeps a copy of its own of every weight, and another one of those that its kernels reorder ("prepack"). Given as
//! initializers from outside, weights are shared, and so is what is made of them (ONNX Runtime's `AddInitializer` and
//! `PrepackedWeightsContainer`). For that they must be read out of the graph's file first.

use std::path::Path;
use std::sync::Arc;

use ort::session::builder::{PrepackedWeights, SessionBuilder};
use ort::value::{DynValue, Tensor};
use prost::Message;

/// Below this many bytes a weight is not worth sharing.
const SMALLEST: usize = 4 << 10;

/// As much of ONNX's `ModelProto` as is needed; see `onnx.proto` for the field numbers.
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
    /// Little-endian; other ways of holding values are for small ones, which are left in the graph.
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT8: i32 = 3;

/// Weights of one graph; clones of its parts go to each session.
pub struct SharedWeights {
    initializers: Vec<(String, Arc<DynValue>)>,
    prepacked: PrepackedWeights,
}

/// The graph's weights cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// What is in it.
    #[error("not an ONNX model: {0}")]
    Model(#[from] prost::DecodeError),
    /// A weight whose bytes do not fit its shape, or that the runtime does not take.
    #[error("weight {name}: {source}")]
    Weight {
        /// Which.
        name: String,
        /// ONNX Runtime's word.
        source: ort::Error,
    },
}

impl SharedWeights {
    /// Reads the larger weights of a graph.
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
                // Indices and the like: small, and left in the graph.
                _ => continue,
            };
            let value = value.map_err(|source| WeightsError::Weight { name: name.clone(), source })?;
            shared.push((name, Arc::new(value)));
        }
        Ok(Self { initializers: shared, prepacked: PrepackedWeights::new() })
    }

    /// Has a session use these weights in place of its own.
    pub(crate) fn share_with(&self, builder: SessionBuilder) -> Result<SessionBuilder, ort::Error> {
        let mut builder = builder.with_prepacked_weights(&self.prepacked)?;
        for (name, value) in &self.initializers {
            builder = builder.with_initializer(name, value.clone())?;
        }
        Ok(builder)
    }
}
