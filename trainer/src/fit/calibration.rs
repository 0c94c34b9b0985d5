//! Temperature scaling (Guo et al., 2017, arXiv:1706.04599), which calibrates probabilities by one
//! number.
//!
//! argmin has a golden-section solver, but it takes more code to set up than the loop below and
//! stops by other criteria, which would change the last digits of recorded temperatures.

use genre_model::sigmoid;
use ndarray::Array2;

use crate::metrics::binary_cross_entropy;

/// The range of the temperature: `e^-2` to `e^2`.
const LOG_RANGE: (f64, f64) = (-2.0, 2.0);
/// Steps of the search, after which the temperature is exact to five digits.
const STEPS: usize = 30;

/// Returns the temperature `T` at which the probabilities `sigmoid(logits / T)` of validation
/// movies have the lowest cross-entropy. A temperature above 1 means that the model was
/// overconfident.
#[must_use]
pub fn temperature(logits: &Array2<f32>, targets: &Array2<f32>) -> f64 {
    let loss = |log_temperature: f64| {
        let factor = (-log_temperature).exp() as f32;
        binary_cross_entropy(&logits.mapv(|logit| sigmoid(logit * factor)).view(), &targets.view())
    };
    golden_section(LOG_RANGE, loss).exp()
}

/// Returns the minimum of a unimodal function.
fn golden_section((mut low, mut high): (f64, f64), f: impl Fn(f64) -> f64) -> f64 {
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut f_left, mut f_right) = (f(left), f(right));
    for _ in 0..STEPS {
        if f_left < f_right {
            (high, right, f_right) = (right, left, f_left);
            left = high - ratio * (high - low);
            f_left = f(left);
        } else {
            (low, left, f_left) = (left, right, f_right);
            right = low + ratio * (high - low);
            f_right = f(right);
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use rand::{Rng as _, SeedableRng as _};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn finds_the_temperature_of_an_overconfident_model() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let honest = Array2::from_shape_simple_fn((20_000, 1), || rng.gen_range(-2.0_f32..2.0));
        let targets = honest.mapv(|logit| f32::from(u8::from(rng.gen_range(0.0..1.0) < sigmoid(logit))));
        assert_abs_diff_eq!(temperature(&(honest * 3.0), &targets), 3.0, epsilon = 0.15);
    }
}
