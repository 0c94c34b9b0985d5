//! The loops of a fit that are not matrix products, written for automatic vectorisation.
//!
//! `pulp` compiles each loop for the widest instructions of the processor, chosen at run time.
//! Results do not depend on that width: elements are computed one by one, without fused
//! multiply-add, and sums have a fixed number of lanes.
//!
//! The `sleef` crate needs nightly Rust, and `wide` chooses its instructions at compile time.

// Only inlined functions are compiled for the wide instructions.
#![allow(clippy::inline_always)]

use pulp::Arch;

/// Partial sums of a reduction.
const LANES: usize = 16;

/// `e^x` to within a few units in the last place (Cody and Waite's reduction, Cephes' polynomial).
/// Below -87 it is about 1e-38, above 88 about 1e38. The standard library's `exp` is a call, which
/// prevents vectorisation.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: the sum's last bits are the rounded number
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    (p * r * r + r + 1.0) * power
}

/// `ln(1 + e)` for `e` from 0 to 1, by the series of the inverse hyperbolic tangent of
/// `e / (2 + e)`.
#[inline(always)]
fn ln_1p(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let z = s * s;
    let mut p = 1.0 / 13.0;
    for odd in [11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = p * z + 1.0 / odd;
    }
    2.0 * s * p
}

#[inline(always)]
pub(crate) fn sigmoid_and_slope(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp(-x));
    (s, s * (1.0 - s))
}

#[inline(always)]
pub(crate) fn relu_and_slope(x: f32) -> (f32, f32) {
    if x > 0.0 { (x, 1.0) } else { (0.0, 0.0) }
}

#[inline(always)]
pub(crate) fn gelu_and_slope(x: f32) -> (f32, f32) {
    const SCALE: f32 = 0.797_884_6; // sqrt(2 / pi)
    const CUBIC: f32 = 0.044_715;
    let squared = x * x;
    // tanh(u) = 1 - 2 / (e^2u + 1)
    let t = 1.0 - 2.0 / (exp(2.0 * SCALE * x * (1.0 + CUBIC * squared)) + 1.0);
    let half = 0.5 * (1.0 + t);
    (x * half, half + 0.5 * x * (1.0 - t * t) * SCALE * (1.0 + 3.0 * CUBIC * squared))
}

/// Turns sums without bias into activations and derivatives, in rows of `bias.len()` units.
pub(crate) fn activate(
    arch: Arch,
    sums: &mut [f32],
    slopes: &mut [f32],
    bias: &[f32],
    f: impl Fn(f32) -> (f32, f32),
) {
    arch.dispatch(|| {
        for (sums, slopes) in sums.chunks_exact_mut(bias.len()).zip(slopes.chunks_exact_mut(bias.len())) {
            for ((sum, slope), bias) in sums.iter_mut().zip(slopes).zip(bias) {
                (*sum, *slope) = f(*sum + bias);
            }
        }
    });
}

/// The binary cross-entropy of a logit, and its derivative times `scale`. Both are 0 if the target is
/// NaN, unknown.
#[inline(always)]
fn loss_and_delta(x: f32, target: f32, scale: f32) -> (f32, f32) {
    let e = exp(-x.abs());
    let loss = x.max(0.0) - x * target + ln_1p(e);
    let probability = if x >= 0.0 { 1.0 } else { e } / (1.0 + e);
    let delta = (probability - target) * scale;
    if target.is_nan() { (0.0, 0.0) } else { (loss, delta) }
}

/// Returns the sum of the binary cross-entropies of `sums`, which are logits without bias in rows
/// of `bias.len()` labels, so no loss is infinite. Replaces the sums by
/// `(probability - target) · scale`.
pub(crate) fn cross_entropy(arch: Arch, sums: &mut [f32], targets: &[f32], bias: &[f32], scale: f32) -> f64 {
    arch.dispatch(|| {
        for row in sums.chunks_exact_mut(bias.len()) {
            for (sum, bias) in row.iter_mut().zip(bias) {
                *sum += bias;
            }
        }
        let mut lanes = [0.0_f64; LANES];
        let (chunks, rest) = sums.as_chunks_mut::<LANES>();
        let (target_chunks, target_rest) = targets.as_chunks::<LANES>();
        for (sums, targets) in chunks.iter_mut().zip(target_chunks) {
            for ((sum, target), lane) in sums.iter_mut().zip(targets).zip(&mut lanes) {
                let (loss, delta) = loss_and_delta(*sum, *target, scale);
                *lane += f64::from(loss);
                *sum = delta;
            }
        }
        let mut total: f64 = lanes.iter().sum();
        for (sum, target) in rest.iter_mut().zip(target_rest) {
            let (loss, delta) = loss_and_delta(*sum, *target, scale);
            total += f64::from(loss);
            *sum = delta;
        }
        total
    })
}

/// `values[i] *= factors[i]`.
pub(crate) fn multiply(arch: Arch, values: &mut [f32], factors: &[f32]) {
    arch.dispatch(|| {
        for (value, factor) in values.iter_mut().zip(factors) {
            *value *= factor;
        }
    });
}

/// Sets a value to 0 if its draw is below `dropped_below`, and multiplies the others by `kept`.
pub(crate) fn mask(arch: Arch, values: &mut [f32], draws: &[u16], dropped_below: u32, kept: f32) {
    arch.dispatch(|| {
        for (value, draw) in values.iter_mut().zip(draws) {
            *value *= if u32::from(*draw) < dropped_below { 0.0 } else { kept };
        }
    });
}

/// Adds up the rows of a matrix of `sums.len()` columns.
pub(crate) fn sum_of_rows(arch: Arch, matrix: &[f32], sums: &mut [f32]) {
    arch.dispatch(|| {
        sums.fill(0.0);
        for row in matrix.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    });
}

/// The constants of a step of Adam.
#[derive(Clone, Copy)]
pub(crate) struct AdamStep {
    pub(crate) rate: f32,
    pub(crate) decay: f32,
    pub(crate) beta_1: f32,
    pub(crate) beta_2: f32,
    pub(crate) epsilon: f32,
}

/// Updates weights and both moments in one pass.
pub(crate) fn adam(
    arch: Arch,
    step: AdamStep,
    weights: &mut [f32],
    gradients: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let AdamStep { rate, decay, beta_1, beta_2, epsilon } = step;
    arch.dispatch(|| {
        let moments = first.iter_mut().zip(second);
        for ((weight, gradient), (m, v)) in weights.iter_mut().zip(gradients).zip(moments) {
            *m += (gradient - *m) * (1.0 - beta_1);
            *v += (gradient * gradient - *v) * (1.0 - beta_2);
            *weight = *weight * decay - rate * *m / (v.sqrt() + epsilon);
        }
    });
}

#[cfg(test)]
mod tests {
    use genre_model::Activation;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_exponential_is_finite_at_its_limits() {
        assert!(exp(-1e30) > 0.0 && exp(-1e30) < 1e-37);
        assert!(exp(1e30).is_finite() && exp(1e30) > 1e38);
        assert!((exp(0.0) - 1.0).abs() < f32::EPSILON);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn wide_and_scalar_instructions_give_the_same_bits() {
        let sums: Vec<f32> = (0..1000).map(|i| ((i * 37) as f32).sin() * 9.0).collect();
        let targets: Vec<f32> = (0..1000_u32).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
        let bias: Vec<f32> = (0..20_u8).map(|i| f32::from(i) * 0.1).collect();
        let run = |arch| {
            let mut sums = sums.clone();
            let loss = cross_entropy(arch, &mut sums, &targets, &bias, 0.01);
            (loss.to_bits(), sums)
        };
        assert_eq!(run(Arch::new()), run(Arch::Scalar));
    }

    proptest! {
        #[test]
        fn exponential_and_logarithm_match_the_standard_library(x in -87.0_f32..88.0, e in 0.0_f32..=1.0) {
            let expected = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) / expected - 1.0).abs() < 4e-7, "{x}");
            let expected = f64::from(e).ln_1p();
            prop_assert!((f64::from(ln_1p(e)) - expected).abs() <= 2e-7 * expected, "{e}");
        }

        #[test]
        fn activations_match_those_of_genre_model(x in -30.0_f32..30.0) {
            type Pair = fn(f32) -> (f32, f32);
            let pairs: [(Activation, Pair); 3] = [
                (Activation::Sigmoid, sigmoid_and_slope),
                (Activation::Relu, relu_and_slope),
                (Activation::Gelu, gelu_and_slope),
            ];
            for (activation, pair) in pairs {
                let (value, slope) = pair(x);
                prop_assert!((value - activation.apply(x)).abs() < 1e-5);
                prop_assert!((slope - activation.derivative(x)).abs() < 1e-5);
            }
        }
    }
}
