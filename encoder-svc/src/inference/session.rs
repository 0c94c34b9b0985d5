//! One ONNX Runtime session: token ids to vectors.

use ort::environment::Environment;
use ort::ep::CUDA;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;

use crate::bundle::{Bundle, Inputs, Manifest};
use crate::inference::shared_weights::SharedWeights;
use crate::inference::tensors::Tensors;
use crate::tokenizer::tokens::Tokens;

/// A session that runs a bundle's graph. On a CPU, the vector of a text that runs alone does not
/// depend on the number of threads.
pub struct EncoderSession {
    session: Session,
    manifest: Manifest,
    tensors: Tensors,
}

/// The graph failed, or did not return a vector for each text.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// ONNX Runtime returned an error.
    #[error("run: {0}")]
    Runtime(#[from] ort::Error),
    /// The output does not have the size that the manifest gives.
    #[error("expected an output of {expected} floats, found {found}")]
    Dimension {
        /// The manifest's dimension times the number of texts.
        expected: usize,
        /// The floats that the graph returned.
        found: usize,
    },
    /// The graph takes hash buckets, but the bundle's tokenizer does not make them.
    #[error("expected a hash bucket for each of {tokens} tokens, found {found}")]
    HashBuckets {
        /// The tokens of the texts.
        tokens: usize,
        /// The hash buckets of the texts.
        found: usize,
    },
    /// A vector contains NaN or infinity.
    #[error("expected a vector of finite floats, found NaN or infinity")]
    NotFinite,
}

impl EncoderSession {
    /// Loads the graph to run on `threads` threads. `weights` must be those of the same bundle.
    pub fn load(
        environment: &Environment,
        bundle: &Bundle,
        weights: &SharedWeights,
        threads: usize,
    ) -> Result<Self, ort::Error> {
        let session = weights.load(Self::builder(environment, threads)?)?;
        Ok(Self::new(session, bundle))
    }

    /// Loads the graph onto a CUDA device. Fails if ONNX Runtime has no CUDA or the machine has no
    /// such device; it never falls back to the CPU.
    pub fn load_on_cuda(
        environment: &Environment,
        bundle: &Bundle,
        device_id: i32,
    ) -> Result<Self, ort::Error> {
        // TF32 has a mantissa of 10 bits, but vectors must agree with those of the CPU to within
        // 1e-5.
        let cuda = CUDA::default().with_device_id(device_id).with_tf32(false).build().error_on_failure();
        let mut builder = Self::builder(environment, 1)?.with_execution_providers([cuda])?;
        Ok(Self::new(builder.commit_from_file(bundle.model_path())?, bundle))
    }

    fn builder(environment: &Environment, threads: usize) -> Result<SessionBuilder, ort::Error> {
        Ok(Session::builder(environment)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            // ONNX Runtime plans a memory pattern for each input length. With texts of many
            // lengths, planning costs more than it saves.
            .with_memory_pattern(false)?
            .with_optimization_level(GraphOptimizationLevel::All)?)
    }

    fn new(session: Session, bundle: &Bundle) -> Self {
        Self { session, manifest: bundle.manifest.clone(), tensors: Tensors::default() }
    }

    /// Runs one text of at most `max_tokens` tokens and returns its vector.
    pub fn run(&mut self, tokens: &Tokens) -> Result<Vec<f32>, RunError> {
        let vectors = self.run_all(std::slice::from_ref(tokens))?;
        vectors.into_iter().next().ok_or(RunError::Dimension { expected: self.manifest.dimension, found: 0 })
    }

    /// Runs texts as one batch and returns a vector for each. A vector may differ from that of the
    /// text run alone: by rounding in single precision, and by much more if the scales of a
    /// quantised graph span the batch.
    pub fn run_all(&mut self, texts: &[Tokens]) -> Result<Vec<Vec<f32>>, RunError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let tensors = &mut self.tensors;
        let inputs = match &self.manifest.inputs {
            Inputs::Padded(names) => {
                let shape = tensors.pad(texts);
                ort::inputs![
                    names.ids.as_str() => TensorRef::from_array_view((shape, tensors.ids.as_slice()))?,
                    names.mask.as_str() => TensorRef::from_array_view((shape, tensors.mask.as_slice()))?,
                ]
            }
            Inputs::Ragged(names) => {
                tensors.join(texts);
                let (tokens, found) = (tensors.ids.len(), tensors.hash_buckets.len());
                if found != tokens {
                    return Err(RunError::HashBuckets { tokens, found });
                }
                let splits = tensors.row_splits.as_slice();
                ort::inputs![
                    names.ids.as_str() => TensorRef::from_array_view(([tokens], tensors.ids.as_slice()))?,
                    names.hash_buckets.as_str() => TensorRef::from_array_view(([tokens], tensors.hash_buckets.as_slice()))?,
                    names.row_splits.as_str() => TensorRef::from_array_view(([splits.len()], splits))?,
                ]
            }
        };
        let outputs = self.session.run(inputs)?;
        let (_, values) = outputs[self.manifest.output.as_str()].try_extract_tensor::<f32>()?;
        let dimension = self.manifest.dimension;
        if values.len() != dimension * texts.len() {
            return Err(RunError::Dimension { expected: dimension * texts.len(), found: values.len() });
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(RunError::NotFinite);
        }
        Ok(values.chunks_exact(dimension).map(<[f32]>::to_vec).collect())
    }
}
