//! One ONNX Runtime session: token ids to a vector.

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use crate::bundle::{Bundle, Inputs, Manifest};
use crate::tokenizer::Tokens;

/// Runs a bundle's graph, one text at a time. A vector does not depend on the number of threads.
pub struct EncoderSession {
    session: Session,
    manifest: Manifest,
    /// As many ones as a text can have tokens: a text alone has no padding.
    ones: Vec<i64>,
}

/// The graph failed, or gave something else than one vector.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// ONNX Runtime's word.
    #[error("run: {0}")]
    Runtime(#[from] ort::Error),
    /// The graph does not give what the manifest says.
    #[error("expected a vector of {expected} floats, found {found}")]
    Dimension {
        /// The manifest's dimension.
        expected: usize,
        /// What the graph gave.
        found: usize,
    },
    /// The graph takes hash buckets, which the bundle's tokenizer does not give.
    #[error("expected a hash bucket of each of {tokens} tokens, found {found}")]
    HashBuckets {
        /// Tokens of the text.
        tokens: usize,
        /// Hash buckets that came with them.
        found: usize,
    },
    /// A vector of which no use can be made.
    #[error("expected a vector of finite floats, found NaN or infinity")]
    NotFinite,
}

impl EncoderSession {
    /// Loads the graph, to be run on `threads` threads.
    pub fn load(environment: &Environment, bundle: &Bundle, threads: usize) -> Result<Self, ort::Error> {
        let session = Session::builder(environment)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .commit_from_file(bundle.model_path())?;
        let manifest = bundle.manifest.clone();
        Ok(Self { session, ones: vec![1; manifest.max_tokens], manifest })
    }

    /// The vector of a text's tokens, at most `max_tokens` of them.
    pub fn run(&mut self, tokens: &Tokens) -> Result<Vec<f32>, RunError> {
        let ids = tokens.ids.as_slice();
        let row_splits = [0, ids.len().cast_signed() as i64];
        let inputs = match &self.manifest.inputs {
            Inputs::Padded(names) => {
                let shape = [1, ids.len()];
                ort::inputs![
                    names.ids.as_str() => TensorRef::from_array_view((shape, ids))?,
                    names.mask.as_str() => TensorRef::from_array_view((shape, &self.ones[..ids.len()]))?,
                ]
            }
            Inputs::Ragged(names) => {
                let buckets = tokens.hash_buckets.as_slice();
                if buckets.len() != ids.len() {
                    return Err(RunError::HashBuckets { tokens: ids.len(), found: buckets.len() });
                }
                ort::inputs![
                    names.ids.as_str() => TensorRef::from_array_view(([ids.len()], ids))?,
                    names.hash_buckets.as_str() => TensorRef::from_array_view(([ids.len()], buckets))?,
                    names.row_splits.as_str() => TensorRef::from_array_view(([2], row_splits.as_slice()))?,
                ]
            }
        };
        let outputs = self.session.run(inputs)?;
        let (_, values) = outputs[self.manifest.output.as_str()].try_extract_tensor::<f32>()?;
        if values.len() != self.manifest.dimension {
            return Err(RunError::Dimension { expected: self.manifest.dimension, found: values.len() });
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(RunError::NotFinite);
        }
        Ok(values.to_vec())
    }
}
