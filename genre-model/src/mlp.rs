//! A network with one hidden layer and an independent probability for each label.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// The activation function of the hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `1 / (1 + e^-x)`, as in the reference system.
    Sigmoid,
    /// `max(0, x)`.
    Relu,
    /// `x Φ(x)` in its tanh approximation (Hendrycks and Gimpel, 2016, arXiv:1606.08415).
    Gelu,
}

const GELU_SCALE: f32 = 0.797_884_6; // sqrt(2 / pi)
const GELU_CUBIC: f32 = 0.044_715;

/// The logistic function, without overflow for finite arguments.
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

impl Activation {
    /// Returns the name in model files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Relu => "relu",
            Self::Gelu => "gelu",
        }
    }

    /// Returns the activation with that name in model files.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sigmoid, Self::Relu, Self::Gelu].into_iter().find(|activation| activation.name() == name)
    }

    /// Returns `f(x)`.
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Sigmoid => sigmoid(x),
            Self::Relu => x.max(0.0),
            Self::Gelu => 0.5 * x * (1.0 + (GELU_SCALE * (x + GELU_CUBIC * x * x * x)).tanh()),
        }
    }

    /// Returns `f'(x)`.
    #[must_use]
    pub fn derivative(self, x: f32) -> f32 {
        match self {
            Self::Sigmoid => {
                let s = sigmoid(x);
                s * (1.0 - s)
            }
            Self::Relu => f32::from(u8::from(x > 0.0)),
            Self::Gelu => {
                let t = (GELU_SCALE * (x + GELU_CUBIC * x * x * x)).tanh();
                let inner = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
            }
        }
    }
}

/// A fully connected layer: `x · weightᵀ + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Shape `[outputs, inputs]`.
    pub weight: Array2<f32>,
    /// Shape `[outputs]`.
    pub bias: Array1<f32>,
}

impl Dense {
    /// Maps `inputs` of shape `[rows, inputs]` to sums of shape `[rows, outputs]`.
    #[must_use]
    pub fn forward(&self, inputs: &ArrayView2<'_, f32>) -> Array2<f32> {
        inputs.dot(&self.weight.t()) + &self.bias
    }

    /// Maps one vector of shape `[inputs]` to sums of shape `[outputs]`.
    fn forward_one(&self, inputs: &ArrayView1<'_, f32>) -> Array1<f32> {
        self.weight.dot(inputs) + &self.bias
    }

    fn is_finite(&self) -> bool {
        self.weight.iter().chain(&self.bias).all(|value| value.is_finite())
    }

    /// Returns a bound on the absolute value of every sum and partial sum, if no input exceeds
    /// `input`.
    fn largest_sum(&self, input: f64) -> f64 {
        let rows = self.weight.rows().into_iter().zip(&self.bias);
        let sum = rows.map(|(weights, bias)| {
            weights.iter().map(|weight| f64::from(weight.abs())).sum::<f64>() * input + f64::from(bias.abs())
        });
        sum.fold(0.0, f64::max)
    }
}

/// A network `inputs → hidden units → labels`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    hidden: Dense,
    activation: Activation,
    output: Dense,
}

/// Why layers do not form a network.
#[derive(Debug, thiserror::Error)]
pub enum InvalidMlp {
    /// Two shapes contradict each other.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The tensor.
        what: &'static str,
        /// The expected length.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// A weight is infinite or not a number.
    #[error("expected finite weights, found NaN or infinity")]
    NotFinite,
    /// Weights are so large that a sum could be infinite and a probability NaN.
    #[error("expected weights whose sums are finite, found sums of up to {found:e}")]
    Overflow {
        /// The bound on the sums.
        found: f64,
    },
}

impl Mlp {
    /// Builds a network.
    ///
    /// # Errors
    /// Fails if the layers do not fit together, if a weight is not finite, or if a sum could
    /// overflow for a vector of unit length.
    pub fn new(hidden: Dense, activation: Activation, output: Dense) -> Result<Self, InvalidMlp> {
        let check = |what, expected, found| {
            if expected == found { Ok(()) } else { Err(InvalidMlp::Shape { what, expected, found }) }
        };
        check("hidden.bias", hidden.weight.nrows(), hidden.bias.len())?;
        check("output.weight columns", hidden.weight.nrows(), output.weight.ncols())?;
        check("output.bias", output.weight.nrows(), output.bias.len())?;
        if !hidden.is_finite() || !output.is_finite() {
            return Err(InvalidMlp::NotFinite);
        }
        // No element of a unit vector exceeds 1. No activation exceeds the larger of its input and
        // 1. Half the range of a float leaves room for rounding.
        let found = output.largest_sum(hidden.largest_sum(1.0).max(1.0)).max(hidden.largest_sum(1.0));
        if found > f64::from(f32::MAX) / 2.0 {
            return Err(InvalidMlp::Overflow { found });
        }
        Ok(Self { hidden, activation, output })
    }

    /// Returns probabilities of shape `[rows, labels]` for vectors of shape `[rows, dimension]`.
    ///
    /// # Panics
    /// Panics if `vectors` does not have [`dimension`](Self::dimension) columns.
    #[must_use]
    pub fn probabilities(&self, vectors: &ArrayView2<'_, f32>) -> Array2<f32> {
        self.logits(vectors).mapv_into(sigmoid)
    }

    /// Returns logits of shape `[rows, labels]` for vectors of shape `[rows, dimension]`.
    ///
    /// # Panics
    /// Panics if `vectors` does not have [`dimension`](Self::dimension) columns.
    #[must_use]
    pub fn logits(&self, vectors: &ArrayView2<'_, f32>) -> Array2<f32> {
        let mut hidden = self.hidden.forward(vectors);
        hidden.mapv_inplace(|x| self.activation.apply(x));
        self.output.forward(&hidden.view())
    }

    /// Returns logits of shape `[labels]` for one vector of shape `[dimension]`, equal to those of
    /// [`logits`](Self::logits) except for rounding.
    ///
    /// A matrix product first repacks the weights, which for a single row costs more than the
    /// product itself.
    ///
    /// # Panics
    /// Panics if `vector` does not have [`dimension`](Self::dimension) elements.
    #[must_use]
    pub fn logits_of(&self, vector: &ArrayView1<'_, f32>) -> Array1<f32> {
        let mut hidden = self.hidden.forward_one(vector);
        hidden.mapv_inplace(|x| self.activation.apply(x));
        self.output.forward_one(&hidden.view())
    }

    /// Multiplies all logits by `factor`, and then adds `bias` of shape `[labels]`.
    pub fn rescaled(&self, factor: f32, bias: &Array1<f32>) -> Result<Self, InvalidMlp> {
        let output = Dense { weight: &self.output.weight * factor, bias: &self.output.bias * factor + bias };
        Self::new(self.hidden.clone(), self.activation, output)
    }

    /// The length of its input vectors.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.hidden.weight.len_of(Axis(1))
    }

    /// The number of hidden units.
    #[must_use]
    pub fn units(&self) -> usize {
        self.hidden.weight.nrows()
    }

    /// The number of labels.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.output.weight.nrows()
    }

    /// The hidden layer.
    #[must_use]
    pub fn hidden(&self) -> &Dense {
        &self.hidden
    }

    /// The activation function of the hidden layer.
    #[must_use]
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The output layer, whose outputs are logits.
    #[must_use]
    pub fn output(&self) -> &Dense {
        &self.output
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn computes_the_formula() {
        let hidden = Dense { weight: array![[1.0, -1.0], [0.5, 2.0]], bias: array![0.0, -3.0] };
        let output = Dense { weight: array![[2.0, 1.0]], bias: array![0.5] };
        let mlp = Mlp::new(hidden, Activation::Relu, output).unwrap();
        // hidden sums: 3-1 = 2 and 1.5+2-3 = 0.5; output 2*2 + 0.5 + 0.5 = 5
        let probability = mlp.probabilities(&array![[3.0, 1.0]].view())[[0, 0]];
        assert!((probability - 1.0 / (1.0 + (-5.0_f32).exp())).abs() < 1e-7);
    }

    #[test]
    fn rejects_layers_that_do_not_fit() {
        let layer = |outputs, inputs| Dense {
            weight: Array2::zeros((outputs, inputs)),
            bias: Array1::zeros(outputs),
        };
        assert!(Mlp::new(layer(3, 2), Activation::Relu, layer(20, 4)).is_err());
        let mut broken = layer(3, 2);
        broken.weight[[1, 1]] = f32::NAN;
        assert!(matches!(Mlp::new(broken, Activation::Relu, layer(20, 3)), Err(InvalidMlp::NotFinite)));
    }

    #[test]
    fn rejects_weights_whose_sums_could_be_infinite() {
        let layer = |weight: f32| Dense { weight: Array2::from_elem((2, 2), weight), bias: Array1::zeros(2) };
        let overflows = |hidden, output| {
            let mlp = Mlp::new(layer(hidden), Activation::Relu, layer(output));
            matches!(mlp, Err(InvalidMlp::Overflow { .. }))
        };
        assert!(overflows(2e38, 1.0) && overflows(1e20, 1e20) && overflows(0.0, -1e38 * 2.0));
        assert!(!overflows(1e18, 1e18));
    }

    #[test]
    fn a_vector_gets_the_same_logits_alone_and_in_a_batch() {
        let layer = |outputs, inputs| Dense {
            weight: Array2::from_shape_fn((outputs, inputs), |(i, j)| {
                ((i * 31 + j * 17) % 13) as f32 / 6.0 - 1.0
            }),
            bias: Array1::from_elem(outputs, 0.1),
        };
        let mlp = Mlp::new(layer(64, 512), Activation::Gelu, layer(20, 64)).unwrap();
        let vectors = Array2::from_shape_fn((7, 512), |(i, j)| ((i * 7 + j * 5) % 11) as f32 / 50.0 - 0.1);
        let many = mlp.logits(&vectors.view());
        for (vector, expected) in vectors.rows().into_iter().zip(many.rows()) {
            let found = mlp.logits_of(&vector);
            assert!(found.iter().zip(expected).all(|(a, b)| (sigmoid(*a) - sigmoid(*b)).abs() < 1e-5));
        }
    }

    proptest! {
        #[test]
        fn derivatives_agree_with_finite_differences(x in -4.0_f32..4.0) {
            for activation in [Activation::Sigmoid, Activation::Gelu] {
                let h = 1e-2;
                let difference = (activation.apply(x + h) - activation.apply(x - h)) / (2.0 * h);
                prop_assert!((activation.derivative(x) - difference).abs() < 1e-3);
            }
        }

        #[test]
        fn the_sigmoid_is_a_probability(x in proptest::num::f32::NORMAL) {
            prop_assert!((0.0..=1.0).contains(&sigmoid(x)));
        }
    }
}
