//! One ONNX Runtime session: token ids to vectors.

use ort::environment::Environment;
use ort::ep::CUDA;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;

use crate::bundle::{Bundle, Inputs, Manifest};
use crate::inference::shared_weights::SharedWeights;
use crate::inference::tensors::Layout;
use crate::tokenizer::Tokens;

/// Threads of a session of many wait so long for each other before they sleep, in microseconds. ONNX Runtime's own choice, a
/// millisecond, takes cores from other texts; with none a lone text takes 0.6 ms longer.
const SPIN_MICROSECONDS: &str = "50";

/// Runs a bundle's graph. On the CPU a vector of a text that runs alone does not depend on the number of threads.
pub struct EncoderSession {
    session: Session,
    manifest: Manifest,
    layout: Layout,
}

/// The graph failed, or gave something else than a vector for each text.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// ONNX Runtime's word.
    #[error("run: {0}")]
    Runtime(#[from] ort::Error),
    /// The graph does not give what the manifest says.
    #[error("expected {expected} floats of all vectors, found {found}")]
    Dimension {
        /// The manifest's dimension, times the texts.
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
    /// Loads the graph, to be run on `threads` threads; `weights` are those of the same bundle.
    pub fn load(
        environment: &Environment,
        bundle: &Bundle,
        weights: &SharedWeights,
        threads: usize,
    ) -> Result<Self, ort::Error> {
        let builder = Self::builder(environment, threads)?;
        Self::commit(weights.share_with(builder)?, bundle)
    }

    /// Loads the graph into a CUDA device. An ONNX Runtime without CUDA, or a machine without the device, is an error: nothing is
    /// run on the CPU in its place.
    pub fn load_on_cuda(
        environment: &Environment,
        bundle: &Bundle,
        device_id: i32,
    ) -> Result<Self, ort::Error> {
        // TF32 has 10 bits of mantissa, and vectors are to be those of the CPU to within 1e-5.
        let cuda = CUDA::default().with_device_id(device_id).with_tf32(false).build().error_on_failure();
        Self::commit(Self::builder(environment, 1)?.with_execution_providers([cuda])?, bundle)
    }

    fn builder(environment: &Environment, threads: usize) -> Result<SessionBuilder, ort::Error> {
        Ok(Session::builder(environment)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            // Plans of a run's memory, one for each length of text that was ever run: 2 to 3 % more texts a second without them.
            .with_memory_pattern(false)?
            .with_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)?
            // Nor after a run, where the thread that takes the answer to its caller needs the core: 0.05 ms of a lone text.
            .with_config_entry("session.force_spinning_stop", "1")?
            .with_optimization_level(GraphOptimizationLevel::All)?)
    }

    fn commit(mut builder: SessionBuilder, bundle: &Bundle) -> Result<Self, ort::Error> {
        let session = builder.commit_from_file(bundle.model_path())?;
        Ok(Self { session, manifest: bundle.manifest.clone(), layout: Layout::default() })
    }

    /// The vector of a text's tokens, at most `max_tokens` of them.
    pub fn run(&mut self, tokens: &Tokens) -> Result<Vec<f32>, RunError> {
        let vectors = self.run_all(std::slice::from_ref(tokens))?;
        vectors.into_iter().next().ok_or(RunError::Dimension { expected: self.manifest.dimension, found: 0 })
    }

    /// The vectors of several texts, in one run; for no texts, none. Each is padded to the longest, and its vector may differ from
    /// that of the text alone: by rounding in single precision, by far more where the graph is quantised by scales of a whole run.
    pub fn run_all(&mut self, texts: &[Tokens]) -> Result<Vec<Vec<f32>>, RunError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let layout = &mut self.layout;
        let inputs = match &self.manifest.inputs {
            Inputs::Padded(names) => {
                let shape = layout.pad(texts);
                ort::inputs![
                    names.ids.as_str() => TensorRef::from_array_view((shape, layout.ids.as_slice()))?,
                    names.mask.as_str() => TensorRef::from_array_view((shape, layout.mask.as_slice()))?,
                ]
            }
            Inputs::Ragged(names) => {
                layout.join(texts);
                let (tokens, buckets) = (layout.ids.len(), layout.hash_buckets.len());
                if buckets != tokens {
                    return Err(RunError::HashBuckets { tokens, found: buckets });
                }
                let splits = layout.row_splits.as_slice();
                ort::inputs![
                    names.ids.as_str() => TensorRef::from_array_view(([tokens], layout.ids.as_slice()))?,
                    names.hash_buckets.as_str() => TensorRef::from_array_view(([tokens], layout.hash_buckets.as_slice()))?,
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
