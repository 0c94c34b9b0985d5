//! Loss and gradient of one mini-batch, in buffers that are made once.

use genre_model::Activation;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use rand::RngCore;

use crate::network::{Parameters, slice, slice_mut};

/// Everything between the inputs of a batch and its gradient.
pub(crate) struct Workspace {
    activation: Activation,
    rows: usize,
    /// Shape `[capacity, inputs]`.
    inputs: Array2<f32>,
    /// Shape `[capacity, labels]`.
    targets: Array2<f32>,
    /// Shape `[capacity, units]`: sums, then activations.
    hidden: Array2<f32>,
    /// Shape `[capacity, units]`: the activation's derivative, 0 where a unit was left out.
    slope: Array2<f32>,
    /// Shape `[capacity, units]`: the loss's derivative by the sums.
    hidden_delta: Array2<f32>,
    /// Shape `[capacity, labels]`: sums, then the loss's derivative by them.
    output: Array2<f32>,
    pub(crate) gradient: Parameters,
}

impl Workspace {
    /// For batches of at most `capacity` rows.
    pub(crate) fn new(capacity: usize, like: &Parameters, activation: Activation) -> Self {
        let (units, inputs) = like.hidden_weight.dim();
        let labels = like.output_bias.len();
        Self {
            activation,
            rows: 0,
            inputs: Array2::zeros((capacity, inputs)),
            targets: Array2::zeros((capacity, labels)),
            hidden: Array2::zeros((capacity, units)),
            slope: Array2::zeros((capacity, units)),
            hidden_delta: Array2::zeros((capacity, units)),
            output: Array2::zeros((capacity, labels)),
            gradient: Parameters::zeros(inputs, units, labels),
        }
    }

    /// Copies the rows of a batch together. `smoothing` moves each target that far from 0 or 1 towards 1/2.
    pub(crate) fn gather(
        &mut self,
        inputs: &Array2<f32>,
        targets: &Array2<f32>,
        rows: &[usize],
        smoothing: f32,
    ) {
        self.rows = rows.len();
        let (from_inputs, from_targets) = (slice(inputs), slice(targets));
        let (dimension, labels) = (inputs.ncols(), targets.ncols());
        for (to, &row) in slice_mut(&mut self.inputs).chunks_exact_mut(dimension).zip(rows) {
            to.copy_from_slice(&from_inputs[row * dimension..(row + 1) * dimension]);
        }
        for (to, &row) in slice_mut(&mut self.targets).chunks_exact_mut(labels).zip(rows) {
            for (to, from) in to.iter_mut().zip(&from_targets[row * labels..(row + 1) * labels]) {
                *to = from * (1.0 - smoothing) + 0.5 * smoothing;
            }
        }
    }

    /// Leaves inputs out by chance.
    pub(crate) fn drop_inputs(&mut self, probability: f32, rng: &mut impl RngCore) {
        let length = self.rows * self.inputs.ncols();
        let mut mask = Mask::new(probability, rng);
        slice_mut(&mut self.inputs)[..length].iter_mut().for_each(|value| *value *= mask.next());
    }

    /// Activations of the hidden layer, and sums of the output layer without its bias. With dropout, each unit is
    /// left out of a row with that probability, and the others are scaled up so that sums keep their expectation
    /// (Srivastava et al., 2014; the inverted form).
    fn forward(&mut self, parameters: &Parameters, dropout: Option<(f32, &mut dyn RngCore)>) {
        let rows = self.rows;
        let inputs = first_rows(&self.inputs, rows);
        let mut sums = first_rows_mut(&mut self.hidden, rows);
        general_mat_mul(1.0, &inputs, &parameters.hidden_weight.t(), 0.0, &mut sums);
        let bias = slice(&parameters.hidden_bias);
        let length = rows * bias.len();
        let hidden = &mut slice_mut(&mut self.hidden)[..length];
        let slope = &mut slice_mut(&mut self.slope)[..length];
        match self.activation {
            Activation::Sigmoid => activate(hidden, slope, bias, sigmoid_and_slope),
            Activation::Relu => activate(hidden, slope, bias, relu_and_slope),
            Activation::Gelu => activate(hidden, slope, bias, gelu_and_slope),
        }
        if let Some((probability, rng)) = dropout {
            let mut mask = Mask::new(probability, rng);
            for (value, slope) in hidden.iter_mut().zip(slope) {
                let factor = mask.next();
                *value *= factor;
                *slope *= factor;
            }
        }
        let hidden = first_rows(&self.hidden, rows);
        let mut output = first_rows_mut(&mut self.output, rows);
        general_mat_mul(1.0, &hidden, &parameters.output_weight.t(), 0.0, &mut output);
    }

    /// Sum of the binary cross-entropies of all pairs of row and label, from the sums before the sigmoid, so that
    /// none is ever infinite. The sums become `(probability - target) * scale`, its derivative times `scale`.
    fn cross_entropy(&mut self, bias: &Array1<f32>, scale: f32) -> f64 {
        let (bias, length) = (slice(bias), self.rows * bias.len());
        let targets = slice(&self.targets)[..length].chunks_exact(bias.len());
        let mut total = 0.0_f64;
        for (sums, targets) in slice_mut(&mut self.output)[..length].chunks_exact_mut(bias.len()).zip(targets)
        {
            let mut row = 0.0_f32;
            for ((sum, target), bias) in sums.iter_mut().zip(targets).zip(bias) {
                let x = *sum + bias;
                let e = (-x.abs()).exp();
                row += x.max(0.0) - x * target + e.ln_1p();
                let probability = if x >= 0.0 { 1.0 } else { e } / (1.0 + e);
                *sum = (probability - target) * scale;
            }
            total += f64::from(row);
        }
        total
    }

    /// The batch's mean loss over rows and labels; its gradient is left in [`gradient`](Self::gradient).
    pub(crate) fn loss_and_gradient(
        &mut self,
        parameters: &Parameters,
        dropout: f32,
        rng: &mut dyn RngCore,
    ) -> f64 {
        self.forward(parameters, (dropout > 0.0).then_some((dropout, rng)));
        let pairs = (self.rows * parameters.output_bias.len()) as f32;
        let loss = self.cross_entropy(&parameters.output_bias, 1.0 / pairs);

        let rows = self.rows;
        let output_delta = first_rows(&self.output, rows);
        let hidden = first_rows(&self.hidden, rows);
        general_mat_mul(1.0, &output_delta.t(), &hidden, 0.0, &mut self.gradient.output_weight);
        sum_of_rows(&output_delta, &mut self.gradient.output_bias);

        let mut hidden_delta = first_rows_mut(&mut self.hidden_delta, rows);
        general_mat_mul(1.0, &output_delta, &parameters.output_weight, 0.0, &mut hidden_delta);
        let length = rows * parameters.hidden_bias.len();
        let slopes = &slice(&self.slope)[..length];
        for (delta, slope) in slice_mut(&mut self.hidden_delta)[..length].iter_mut().zip(slopes) {
            *delta *= slope;
        }
        let hidden_delta = first_rows(&self.hidden_delta, rows);
        let inputs = first_rows(&self.inputs, rows);
        general_mat_mul(1.0, &hidden_delta.t(), &inputs, 0.0, &mut self.gradient.hidden_weight);
        sum_of_rows(&hidden_delta, &mut self.gradient.hidden_bias);
        loss / f64::from(pairs)
    }

    /// The mean loss over all rows and labels of a data set, nothing left out.
    pub(crate) fn mean_loss(
        &mut self,
        parameters: &Parameters,
        inputs: &Array2<f32>,
        targets: &Array2<f32>,
    ) -> f64 {
        let rows: Vec<usize> = (0..inputs.nrows()).collect();
        let mut total = 0.0;
        for batch in rows.chunks(self.inputs.nrows()) {
            self.gather(inputs, targets, batch, 0.0);
            self.forward(parameters, None);
            total += self.cross_entropy(&parameters.output_bias, 1.0);
        }
        total / targets.len() as f64
    }
}

// Not the `s!` macro: it expands to unsafe code, which this workspace forbids.
fn first_rows(matrix: &Array2<f32>, rows: usize) -> ArrayView2<'_, f32> {
    matrix.slice_axis(Axis(0), Slice::from(..rows))
}

fn first_rows_mut(matrix: &mut Array2<f32>, rows: usize) -> ArrayViewMut2<'_, f32> {
    matrix.slice_axis_mut(Axis(0), Slice::from(..rows))
}

fn sum_of_rows(matrix: &ArrayView2<'_, f32>, sums: &mut Array1<f32>) {
    sums.fill(0.0);
    matrix.rows().into_iter().for_each(|row| *sums += &row);
}

/// Sums to activations and derivatives, in one pass.
fn activate(sums: &mut [f32], slopes: &mut [f32], bias: &[f32], f: impl Fn(f32) -> (f32, f32)) {
    for (sums, slopes) in sums.chunks_exact_mut(bias.len()).zip(slopes.chunks_exact_mut(bias.len())) {
        for ((sum, slope), bias) in sums.iter_mut().zip(slopes).zip(bias) {
            (*sum, *slope) = f(*sum + bias);
        }
    }
}

// Value and derivative together: they share the exponential. The tests hold them against `genre_model::Activation`.

fn sigmoid_and_slope(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + (-x).exp());
    (s, s * (1.0 - s))
}

fn relu_and_slope(x: f32) -> (f32, f32) {
    if x > 0.0 { (x, 1.0) } else { (0.0, 0.0) }
}

fn gelu_and_slope(x: f32) -> (f32, f32) {
    const SCALE: f32 = 0.797_884_6; // sqrt(2 / pi)
    const CUBIC: f32 = 0.044_715;
    let squared = x * x;
    // tanh(u) = 1 - 2 / (e^2u + 1); e^2u may be infinite, and the quotient 0
    let t = 1.0 - 2.0 / ((2.0 * SCALE * x * (1.0 + CUBIC * squared)).exp() + 1.0);
    let half = 0.5 * (1.0 + t);
    (x * half, half + 0.5 * x * (1.0 - t * t) * SCALE * (1.0 + 3.0 * CUBIC * squared))
}

/// Factors of 0 and `1 / (1 - probability)`.
struct Mask<'a, R: RngCore + ?Sized> {
    rng: &'a mut R,
    dropped_below: u32,
    kept: f32,
    bits: u64,
    left: u32,
}

impl<'a, R: RngCore + ?Sized> Mask<'a, R> {
    fn new(probability: f32, rng: &'a mut R) -> Self {
        // 16 bits decide: as exact as anybody chooses a dropout, and four decisions a draw.
        let dropped_below = (probability * 65536.0).round() as u32;
        Self { rng, dropped_below, kept: 1.0 / (1.0 - probability), bits: 0, left: 0 }
    }

    fn next(&mut self) -> f32 {
        if self.left == 0 {
            (self.bits, self.left) = (self.rng.next_u64(), 4);
        }
        let draw = (self.bits & 0xffff) as u32;
        self.bits >>= 16;
        self.left -= 1;
        if draw < self.dropped_below { 0.0 } else { self.kept }
    }
}

#[cfg(test)]
mod tests;
