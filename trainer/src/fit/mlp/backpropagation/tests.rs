use approx::assert_abs_diff_eq;
use rand::{Rng, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;

fn random(shape: (usize, usize), rng: &mut impl Rng) -> Array2<f32> {
    Array2::from_shape_simple_fn(shape, || rng.gen_range(-1.0..1.0))
}

/// The loss by its formula, in f64.
fn naive_loss(parameters: &Parameters, activation: Activation, x: &Array2<f32>, y: &Array2<f32>) -> f64 {
    let wide = |a: &Array2<f32>| a.mapv(f64::from);
    let f = |v: f64| match activation {
        Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
        Activation::Relu => v.max(0.0),
        Activation::Gelu => 0.5 * v * (1.0 + (0.797_884_560_8 * (v + 0.044_715 * v.powi(3))).tanh()),
    };
    let hidden = wide(x).dot(&wide(&parameters.hidden_weight).t()) + &parameters.hidden_bias.mapv(f64::from);
    let output =
        hidden.mapv(f).dot(&wide(&parameters.output_weight).t()) + &parameters.output_bias.mapv(f64::from);
    let losses = output.iter().zip(y).map(|(z, y)| {
        let p = 1.0 / (1.0 + (-z).exp());
        if *y > 0.5 { -p.ln() } else { -(1.0 - p).ln() }
    });
    losses.sum::<f64>() / y.len() as f64
}

#[test]
fn the_gradient_matches_differences_of_the_loss() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    for activation in [Activation::Sigmoid, Activation::Relu, Activation::Gelu] {
        let mut parameters = Parameters::random(5, 7, 3, activation, &mut rng);
        parameters.hidden_bias.mapv_inplace(|_| rng.gen_range(-0.5..0.5));
        parameters.output_bias.mapv_inplace(|_| rng.gen_range(-0.5..0.5));
        let x = random((6, 5), &mut rng);
        let y = random((6, 3), &mut rng).mapv(|v| f32::from(u8::from(v > 0.0)));
        let mut workspace = Workspace::new(8, &parameters, activation);
        workspace.gather(&x, &y, &[0, 1, 2, 3, 4, 5], 0.0);
        let found = workspace.loss_and_gradient(&parameters, 0.0, &mut rng);
        let loss = naive_loss(&parameters, activation, &x, &y);
        assert_abs_diff_eq!(found, loss, epsilon = 1e-6);
        assert_abs_diff_eq!(loss, workspace.mean_loss(&parameters, &x, &y), epsilon = 1e-6);
        workspace.gather(&x, &y, &[0, 1, 2, 3, 4, 5], 0.0);
        workspace.loss_and_gradient(&parameters, 0.0, &mut rng);
        for tensor in 0..4 {
            for index in 0..parameters.slices()[tensor].len() {
                let h = 1e-3_f32;
                let slope = |by: f32| {
                    let mut moved = parameters.clone();
                    moved.slices_mut()[tensor][index] += by;
                    (naive_loss(&moved, activation, &x, &y) - loss) / f64::from(by)
                };
                // Curvature, or the kink of ReLU, may separate the slopes on the two sides.
                let (below, above) = (slope(-h), slope(h));
                let expected = below.min(above) - 2e-4..below.max(above) + 2e-4;
                let gradient = f64::from(workspace.gradient.slices()[tensor][index]);
                assert!(expected.contains(&gradient), "{activation:?}: {gradient} is not in {expected:?}");
            }
        }
    }
}

#[test]
fn dropout_keeps_the_expectation() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let parameters = Parameters::random(1000, 2, 1, Activation::Relu, &mut rng);
    let mut workspace = Workspace::new(100, &parameters, Activation::Relu);
    let rows: Vec<usize> = (0..100).collect();
    workspace.gather(&Array2::ones((100, 1000)), &Array2::zeros((100, 1)), &rows, 0.0);
    workspace.drop_inputs(0.4, &mut rng);
    let dropped = workspace.inputs.iter().filter(|value| **value == 0.0).count() as f64 / 1e5;
    let mean = workspace.inputs.iter().map(|value| f64::from(*value)).sum::<f64>() / 1e5;
    assert_abs_diff_eq!(dropped, 0.4, epsilon = 0.01);
    assert_abs_diff_eq!(mean, 1.0, epsilon = 0.02);
}

#[test]
fn a_dropped_unit_gets_no_gradient() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let parameters = Parameters::random(4, 50, 2, Activation::Gelu, &mut rng);
    let mut workspace = Workspace::new(1, &parameters, Activation::Gelu);
    workspace.gather(&random((1, 4), &mut rng), &Array2::zeros((1, 2)), &[0], 0.0);
    workspace.loss_and_gradient(&parameters, 0.5, &mut rng);
    let untouched: Vec<usize> = (0..50).filter(|unit| workspace.gradient.hidden_bias[*unit] == 0.0).collect();
    assert!((10..40).contains(&untouched.len()), "{untouched:?}");
    for unit in untouched {
        assert!(workspace.gradient.hidden_weight.row(unit).iter().all(|value| *value == 0.0));
        assert!(workspace.gradient.output_weight.column(unit).iter().all(|value| *value == 0.0));
    }
}

#[test]
fn a_certain_mistake_has_a_finite_loss() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
    let mut parameters = Parameters::random(2, 2, 1, Activation::Relu, &mut rng);
    parameters.output_bias[0] = 1e4;
    let mut workspace = Workspace::new(1, &parameters, Activation::Relu);
    let loss = workspace.mean_loss(&parameters, &Array2::zeros((1, 2)), &Array2::zeros((1, 1)));
    assert_abs_diff_eq!(loss, 1e4, epsilon = 1.0);
}
