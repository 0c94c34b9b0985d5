//! Scales inputs to mean 0 and variance 1, and folds the scaling into a fitted network.
//!
//! linfa-preprocessing has such a scaler, but it sums in the precision of its input; these sums
//! need `f64`.

use ndarray::{Array1, Array2, Axis};

use crate::fit::mlp::weights::Parameters;

/// Mean and scale of each input, measured on training rows only.
pub(crate) struct Standardiser {
    mean: Array1<f32>,
    /// 1 / standard deviation, or 0 for a constant input.
    scale: Array1<f32>,
}

impl Standardiser {
    pub(crate) fn fit(inputs: &Array2<f32>) -> Self {
        // In f64, since many squares of small numbers are summed.
        let wide = inputs.mapv(f64::from);
        let mean = wide.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(inputs.ncols()));
        let deviation = wide.std_axis(Axis(0), 0.0);
        let scale = deviation.mapv(|deviation| if deviation > 1e-12 { 1.0 / deviation } else { 0.0 });
        Self { mean: mean.mapv(|value| value as f32), scale: scale.mapv(|value| value as f32) }
    }

    pub(crate) fn apply(&self, inputs: &Array2<f32>) -> Array2<f32> {
        (inputs - &self.mean) * &self.scale
    }

    /// Folds `(x - mean) * scale` into the hidden layer: `W·s` and `b - W·(s m)`. The network then
    /// takes unscaled inputs.
    pub(crate) fn fold_into(&self, parameters: &mut Parameters) {
        parameters.hidden_weight *= &self.scale;
        parameters.hidden_bias -= &parameters.hidden_weight.dot(&self.mean);
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use genre_model::Activation;
    use ndarray::array;
    use rand::SeedableRng as _;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn folding_the_scaling_into_a_network_keeps_its_outputs() {
        let inputs = array![[1.0, 5.0, 0.02], [3.0, 5.0, 0.05], [8.0, 5.0, -0.01]];
        let standardiser = Standardiser::fit(&inputs);
        let scaled = standardiser.apply(&inputs);
        assert_abs_diff_eq!(scaled.column(0).sum(), 0.0, epsilon = 1e-5);
        assert_abs_diff_eq!(scaled.column(2).mapv(|x| x * x).sum() / 3.0, 1.0, epsilon = 1e-5);
        assert_abs_diff_eq!(scaled.column(1).sum(), 0.0);

        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let fitted = Parameters::random(3, 4, 2, Activation::Gelu, &mut rng);
        let mut folded = fitted.clone();
        standardiser.fold_into(&mut folded);
        let expected = fitted.into_mlp(Activation::Gelu).unwrap().probabilities(&scaled.view());
        let found = folded.into_mlp(Activation::Gelu).unwrap().probabilities(&inputs.view());
        assert_abs_diff_eq!(found, expected, epsilon = 1e-5);
    }
}
