//! The weights of a network during a fit.

use genre_model::{Activation, Dense, InvalidMlp, Mlp};
use ndarray::{Array, Array1, Array2, Dimension};
use rand::Rng;

/// Weights, or one value per weight such as a gradient or a moment. All arrays are in row-major
/// order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameters {
    /// Shape `[units, inputs]`.
    pub(crate) hidden_weight: Array2<f32>,
    /// Shape `[units]`.
    pub(crate) hidden_bias: Array1<f32>,
    /// Shape `[labels, units]`.
    pub(crate) output_weight: Array2<f32>,
    /// Shape `[labels]`.
    pub(crate) output_bias: Array1<f32>,
}

impl Parameters {
    pub(crate) fn zeros(inputs: usize, units: usize, labels: usize) -> Self {
        Self {
            hidden_weight: Array2::zeros((units, inputs)),
            hidden_bias: Array1::zeros(units),
            output_weight: Array2::zeros((labels, units)),
            output_bias: Array1::zeros(labels),
        }
    }

    /// Returns random weights and zero biases: uniform after Glorot and Bengio (2010) for the
    /// output layer and a sigmoid layer, as in Keras; uniform after He et al. (2015,
    /// arXiv:1502.01852) for `ReLU` and `GELU`.
    pub(crate) fn random(
        inputs: usize,
        units: usize,
        labels: usize,
        activation: Activation,
        rng: &mut impl Rng,
    ) -> Self {
        let glorot = |from: usize, to: usize| (6.0 / (from + to) as f32).sqrt();
        let hidden_limit = match activation {
            Activation::Sigmoid => glorot(inputs, units),
            Activation::Relu | Activation::Gelu => (6.0 / inputs as f32).sqrt(),
        };
        let mut parameters = Self::zeros(inputs, units, labels);
        parameters.hidden_weight.mapv_inplace(|_| rng.gen_range(-hidden_limit..=hidden_limit));
        let limit = glorot(units, labels);
        parameters.output_weight.mapv_inplace(|_| rng.gen_range(-limit..=limit));
        parameters
    }

    pub(crate) fn slices(&self) -> [&[f32]; 4] {
        [
            slice(&self.hidden_weight),
            slice(&self.hidden_bias),
            slice(&self.output_weight),
            slice(&self.output_bias),
        ]
    }

    pub(crate) fn slices_mut(&mut self) -> [&mut [f32]; 4] {
        [
            slice_mut(&mut self.hidden_weight),
            slice_mut(&mut self.hidden_bias),
            slice_mut(&mut self.output_weight),
            slice_mut(&mut self.output_bias),
        ]
    }

    /// Copies values of the same shapes from `other`.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        for (to, from) in self.slices_mut().into_iter().zip(other.slices()) {
            to.copy_from_slice(from);
        }
    }

    pub(crate) fn into_mlp(self, activation: Activation) -> Result<Mlp, InvalidMlp> {
        let hidden = Dense { weight: self.hidden_weight, bias: self.hidden_bias };
        Mlp::new(hidden, activation, Dense { weight: self.output_weight, bias: self.output_bias })
    }
}

/// Returns the elements of an array of this crate, in row-major order.
pub(crate) fn slice<D: Dimension>(array: &Array<f32, D>) -> &[f32] {
    array.as_slice().expect("arrays are created in row-major order and never transposed")
}

/// As [`slice`], mutable.
pub(crate) fn slice_mut<D: Dimension>(array: &mut Array<f32, D>) -> &mut [f32] {
    array.as_slice_mut().expect("arrays are created in row-major order and never transposed")
}
