//! Loss and gradient of a mini-batch, in buffers that are allocated once.
//!
//! burn and candle differentiate automatically, but only their own tensors. With one hidden layer,
//! the gradient is four matrix products of ndarray, and a fit is repeatable bit for bit.

use std::ops::Range;

use genre_model::Activation;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use pulp::Arch;
use rand::{Rng as _, RngCore};

use crate::fit::mlp::simd::{self, activate};
use crate::fit::mlp::weights::{Parameters, slice, slice_mut};

/// The buffers between the inputs of a batch and its gradient.
pub(crate) struct Workspace {
    arch: Arch,
    activation: Activation,
    rows: usize,
    /// Shape `[capacity, inputs]`.
    inputs: Array2<f32>,
    /// Shape `[capacity, labels]`.
    targets: Array2<f32>,
    /// Shape `[capacity, units]`: sums, then activations.
    hidden: Array2<f32>,
    /// Shape `[capacity, units]`: the derivative of the activation, 0 for a dropped unit.
    slope: Array2<f32>,
    /// Shape `[capacity, units]`: the derivative of the loss by the sums.
    hidden_delta: Array2<f32>,
    /// Shape `[capacity, labels]`: sums, then the derivative of the loss by them.
    output: Array2<f32>,
    /// Random draws for dropout, one per input or hidden value of the batch.
    draws: Vec<u16>,
    pub(crate) gradient: Parameters,
}

impl Workspace {
    /// Allocates buffers for batches of at most `capacity` rows.
    pub(crate) fn new(capacity: usize, like: &Parameters, activation: Activation) -> Self {
        let (units, inputs) = like.hidden_weight.dim();
        let labels = like.output_bias.len();
        Self {
            arch: Arch::new(),
            activation,
            rows: 0,
            inputs: Array2::zeros((capacity, inputs)),
            targets: Array2::zeros((capacity, labels)),
            hidden: Array2::zeros((capacity, units)),
            slope: Array2::zeros((capacity, units)),
            hidden_delta: Array2::zeros((capacity, units)),
            output: Array2::zeros((capacity, labels)),
            draws: vec![0; capacity * units.max(inputs)],
            gradient: Parameters::zeros(inputs, units, labels),
        }
    }

    /// Gathers the rows of a batch. `smoothing` moves each target towards 1/2.
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

    /// Copies a range of rows.
    fn take(&mut self, inputs: &Array2<f32>, targets: &Array2<f32>, rows: Range<usize>) {
        self.rows = rows.len();
        for (to, from) in [(&mut self.inputs, inputs), (&mut self.targets, targets)] {
            let columns = from.ncols();
            slice_mut(to)[..rows.len() * columns]
                .copy_from_slice(&slice(from)[rows.start * columns..rows.end * columns]);
        }
    }

    /// Drops inputs at random.
    pub(crate) fn drop_inputs(&mut self, probability: f32, rng: &mut dyn RngCore) {
        let length = self.rows * self.inputs.ncols();
        let draws = &mut self.draws[..length];
        rng.fill(draws);
        let (dropped_below, kept) = odds(probability);
        simd::mask(self.arch, &mut slice_mut(&mut self.inputs)[..length], draws, dropped_below, kept);
    }

    /// Computes the activations of the hidden layer and the sums of the output layer without its
    /// bias. With dropout, each unit of a row is dropped with that probability, and the others are
    /// scaled up to keep the expectation of sums (inverted dropout; Srivastava et al., 2014).
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
            Activation::Sigmoid => activate(self.arch, hidden, slope, bias, simd::sigmoid_and_slope),
            Activation::Relu => activate(self.arch, hidden, slope, bias, simd::relu_and_slope),
            Activation::Gelu => activate(self.arch, hidden, slope, bias, simd::gelu_and_slope),
        }
        if let Some((probability, rng)) = dropout {
            let draws = &mut self.draws[..length];
            rng.fill(draws);
            let (dropped_below, kept) = odds(probability);
            simd::mask(self.arch, hidden, draws, dropped_below, kept);
            simd::mask(self.arch, slope, draws, dropped_below, kept);
        }
        let hidden = first_rows(&self.hidden, rows);
        let mut output = first_rows_mut(&mut self.output, rows);
        general_mat_mul(1.0, &hidden, &parameters.output_weight.t(), 0.0, &mut output);
    }

    /// As [`simd::cross_entropy`], over the batch.
    fn cross_entropy(&mut self, bias: &Array1<f32>, scale: f32) -> f64 {
        let (bias, length) = (slice(bias), self.rows * bias.len());
        let sums = &mut slice_mut(&mut self.output)[..length];
        simd::cross_entropy(self.arch, sums, &slice(&self.targets)[..length], bias, scale)
    }

    /// Returns the mean loss over the pairs of row and label whose target is known, and stores the
    /// gradient of the mean over all pairs in [`gradient`](Self::gradient).
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
        let (labels, units) = (parameters.output_bias.len(), parameters.hidden_bias.len());
        let deltas = &slice(&self.output)[..rows * labels];
        simd::sum_of_rows(self.arch, deltas, slice_mut(&mut self.gradient.output_bias));

        let mut hidden_delta = first_rows_mut(&mut self.hidden_delta, rows);
        general_mat_mul(1.0, &output_delta, &parameters.output_weight, 0.0, &mut hidden_delta);
        let slopes = &slice(&self.slope)[..rows * units];
        simd::multiply(self.arch, &mut slice_mut(&mut self.hidden_delta)[..rows * units], slopes);
        let hidden_delta = first_rows(&self.hidden_delta, rows);
        let inputs = first_rows(&self.inputs, rows);
        general_mat_mul(1.0, &hidden_delta.t(), &inputs, 0.0, &mut self.gradient.hidden_weight);
        let deltas = &slice(&self.hidden_delta)[..rows * units];
        simd::sum_of_rows(self.arch, deltas, slice_mut(&mut self.gradient.hidden_bias));
        loss / known_pairs(&slice(&self.targets)[..rows * labels])
    }

    /// Returns the mean loss over all pairs of row and label of a data set whose target is known,
    /// without dropout.
    pub(crate) fn mean_loss(
        &mut self,
        parameters: &Parameters,
        inputs: &Array2<f32>,
        targets: &Array2<f32>,
    ) -> f64 {
        let mut total = 0.0;
        let capacity = self.inputs.nrows();
        for first in (0..inputs.nrows()).step_by(capacity) {
            self.take(inputs, targets, first..inputs.nrows().min(first + capacity));
            self.forward(parameters, None);
            total += self.cross_entropy(&parameters.output_bias, 1.0);
        }
        total / known_pairs(targets)
    }
}

/// Returns the number of targets that are known, at least 1.
fn known_pairs<'a>(targets: impl IntoIterator<Item = &'a f32>) -> f64 {
    targets.into_iter().filter(|target| !target.is_nan()).count().max(1) as f64
}

// The `s!` macro expands to unsafe code, which this workspace forbids.
fn first_rows(matrix: &Array2<f32>, rows: usize) -> ArrayView2<'_, f32> {
    matrix.slice_axis(Axis(0), Slice::from(..rows))
}

fn first_rows_mut(matrix: &mut Array2<f32>, rows: usize) -> ArrayViewMut2<'_, f32> {
    matrix.slice_axis_mut(Axis(0), Slice::from(..rows))
}

/// Returns the limit below which a 16-bit draw drops a value, and the factor for the others. 16
/// bits are precise enough for a dropout rate.
fn odds(probability: f32) -> (u32, f32) {
    ((probability * 65536.0).round() as u32, 1.0 / (1.0 - probability))
}

#[cfg(test)]
mod tests;
