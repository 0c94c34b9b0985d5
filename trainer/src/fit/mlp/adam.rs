//! Adam (Kingma and Ba, 2015, arXiv:1412.6980) as Keras computes it, with decoupled weight decay
//! (Loshchilov and Hutter, 2019, arXiv:1711.05101).
//!
//! linfa and argmin have no Adam. burn and candle have one, but only for their own tensors. Those
//! would replace ndarray, and with it the arithmetic that makes a fit repeatable bit for bit.

use pulp::Arch;

use crate::fit::mlp::simd::{self, AdamStep};
use crate::fit::mlp::weights::Parameters;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
/// Keras adds epsilon to the root of the uncorrected moment: the "epsilon hat" of the paper.
const EPSILON: f32 = 1e-7;

/// The state of the optimiser.
pub(crate) struct Adam {
    arch: Arch,
    learning_rate: f32,
    weight_decay: f32,
    step: i32,
    first_moment: Parameters,
    second_moment: Parameters,
}

impl Adam {
    pub(crate) fn new(learning_rate: f32, weight_decay: f32, like: &Parameters) -> Self {
        let (units, inputs) = like.hidden_weight.dim();
        let zeros = || Parameters::zeros(inputs, units, like.output_bias.len());
        Self {
            arch: Arch::new(),
            learning_rate,
            weight_decay,
            step: 0,
            first_moment: zeros(),
            second_moment: zeros(),
        }
    }

    /// Takes one step against the gradient. Weights decay, biases do not.
    pub(crate) fn update(&mut self, parameters: &mut Parameters, gradient: &Parameters) {
        self.step += 1;
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(self.step);
        let rate = f64::from(self.learning_rate) * correction(BETA_2).sqrt() / correction(BETA_1);
        let decay = 1.0 - self.learning_rate * self.weight_decay;
        let tensors = parameters
            .slices_mut()
            .into_iter()
            .zip(gradient.slices())
            .zip(self.first_moment.slices_mut())
            .zip(self.second_moment.slices_mut())
            .zip([decay, 1.0, decay, 1.0]);
        for ((((weights, gradients), first), second), decay) in tensors {
            let step =
                AdamStep { rate: rate as f32, decay, beta_1: BETA_1, beta_2: BETA_2, epsilon: EPSILON };
            simd::adam(self.arch, step, weights, gradients, first, second);
        }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::*;

    fn single(weight: f32, bias: f32) -> Parameters {
        let mut parameters = Parameters::zeros(1, 1, 1);
        parameters.hidden_weight[[0, 0]] = weight;
        parameters.hidden_bias[0] = bias;
        parameters
    }

    #[test]
    fn steps_follow_the_published_algorithm() {
        let (mut parameters, mut m, mut v) = (single(1.0, 0.0), 0.0_f64, 0.0_f64);
        let mut adam = Adam::new(0.01, 0.0, &parameters);
        let mut expected = 1.0_f64;
        for (step, gradient) in [(1, 0.5), (2, -0.3), (3, 0.8), (4, 0.1)] {
            adam.update(&mut parameters, &single(gradient, 0.0));
            let gradient = f64::from(gradient);
            m = 0.9 * m + 0.1 * gradient;
            v = 0.999 * v + 0.001 * gradient * gradient;
            expected -= 0.01 * (m / (1.0 - 0.9_f64.powi(step))) / (v / (1.0 - 0.999_f64.powi(step))).sqrt();
            assert_abs_diff_eq!(f64::from(parameters.hidden_weight[[0, 0]]), expected, epsilon = 1e-5);
        }
    }

    #[test]
    fn without_a_gradient_weights_decay_and_biases_stay() {
        let mut parameters = single(2.0, 2.0);
        let mut adam = Adam::new(0.1, 0.5, &parameters);
        adam.update(&mut parameters, &single(0.0, 0.0));
        assert_abs_diff_eq!(parameters.hidden_weight[[0, 0]], 1.9, epsilon = 1e-6);
        assert_abs_diff_eq!(parameters.hidden_bias[0], 2.0);
    }
}
