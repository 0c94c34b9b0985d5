//! One ONNX Runtime session: token ids to a vector.

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use crate::bundle::{Bundle, Manifest};
use crate::shared_weights::SharedWeights;

/// Threads of a session of many wait so long for each other before they sleep, in microseconds. ONNX Runtime's own choice, a
/// millisecond, takes cores from other texts; with none a lone text takes 0.6 ms longer.
const SPIN_MICROSECONDS: &str = "50";

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
        let builder = Session::builder(environment)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)?
            .with_optimization_level(GraphOptimizationLevel::All)?;
        let session = weights.share_with(builder)?.commit_from_file(bundle.model_path())?;
        let manifest = bundle.manifest.clone();
        Ok(Self { session, ones: vec![1; manifest.max_tokens], manifest })
    }

    /// The vector of a text's token ids, which must be 1 to `max_tokens`.
    pub fn run(&mut self, ids: &[i64]) -> Result<Vec<f32>, RunError> {
        let shape = [1, ids.len()];
        let inputs = ort::inputs![
            self.manifest.inputs.ids.as_str() => TensorRef::from_array_view((shape, ids))?,
            self.manifest.inputs.mask.as_str() => TensorRef::from_array_view((shape, &self.ones[..ids.len()]))?,
        ];
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
