//! The network as a linfa estimator: the loop over epochs and batches.

use std::borrow::Cow;

use genre_model::Mlp;
use linfa::dataset::DatasetBase;
use linfa::traits::{Fit, PredictInplace};
use ndarray::Array2;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::data::training_data::LabelledVectors;
use crate::fit::hyper_parameters::InvalidParam;
use crate::fit::mlp::adam::Adam;
use crate::fit::mlp::backpropagation::Workspace;
use crate::fit::mlp::early_stopping::{EarlyStopping, Verdict};
use crate::fit::mlp::params::MlpParams;
use crate::fit::mlp::standardiser::Standardiser;
use crate::fit::mlp::weights::Parameters;

/// Validation rows measured at a time.
const MEASURED_ROWS: usize = 512;

/// Why a network cannot be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// A hyper-parameter is out of range.
    #[error(transparent)]
    Param(#[from] InvalidParam),
    /// Targets do not match the vectors, or there are none.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The data.
        what: &'static str,
        /// The expected shapes.
        expected: String,
        /// The shapes it has.
        found: String,
    },
    /// The loss became infinite or NaN.
    #[error("expected a finite loss, found none in {epochs} epochs; try a lower learning rate")]
    Diverged {
        /// Epochs that ran.
        epochs: usize,
    },
    /// linfa reports an error.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}

/// Mean binary cross-entropies after an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochLosses {
    /// The number of the epoch, from 1.
    pub epoch: usize,
    /// The loss over the batches of the epoch, with dropout, while weights changed.
    pub train: f64,
    /// The loss over the validation rows after the epoch, without dropout.
    pub validation: Option<f64>,
}

/// A fitted network and its history.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedMlp {
    /// The network, for vectors as the encoder returns them.
    pub mlp: Mlp,
    /// One entry per epoch.
    pub history: Vec<EpochLosses>,
    /// The epoch whose weights were kept.
    pub best_epoch: usize,
}

impl MlpParams {
    /// Fits on `train` until the loss on `validation` stops improving, and keeps the weights of the
    /// best epoch. Gradients come from `train` only. Calls `observe` after every epoch.
    pub fn fit_validated(
        &self,
        train: &LabelledVectors,
        validation: &LabelledVectors,
        observe: impl FnMut(EpochLosses),
    ) -> Result<FittedMlp, FitError> {
        self.run(train, Some(validation), observe)
    }

    fn run(
        &self,
        train: &LabelledVectors,
        validation: Option<&LabelledVectors>,
        mut observe: impl FnMut(EpochLosses),
    ) -> Result<FittedMlp, FitError> {
        self.check()?;
        check_shapes("training data", train, train)?;
        if let Some(validation) = validation {
            check_shapes("validation data", validation, train)?;
        }
        let standardiser = self.standardise.then(|| Standardiser::fit(train.records()));
        let train = Rows::of(train, standardiser.as_ref());
        let validation = validation.map(|data| Rows::of(data, standardiser.as_ref()));
        let (inputs, wanted) = (train.inputs.as_ref(), train.targets.as_ref());

        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let mut parameters =
            Parameters::random(inputs.ncols(), self.units, wanted.ncols(), self.activation, &mut rng);
        let mut adam = Adam::new(self.learning_rate, self.weight_decay, &parameters);
        let mut batch = Workspace::new(self.batch_size.min(inputs.nrows()), &parameters, self.activation);
        let mut measure = Workspace::new(MEASURED_ROWS, &parameters, self.activation);
        let mut order: Vec<usize> = (0..inputs.nrows()).collect();
        let mut stopping = EarlyStopping::new(self.patience, self.min_delta);
        let (mut best, mut best_epoch) = (parameters.clone(), 0);
        let mut history = Vec::new();
        for epoch in 1..=self.max_epochs {
            order.shuffle(&mut rng);
            let mut total = 0.0;
            for rows in order.chunks(self.batch_size) {
                batch.gather(inputs, wanted, rows, self.label_smoothing);
                if self.input_dropout > 0.0 {
                    batch.drop_inputs(self.input_dropout, &mut rng);
                }
                total += batch.loss_and_gradient(&parameters, self.dropout, &mut rng) * rows.len() as f64;
                adam.update(&mut parameters, &batch.gradient);
            }
            let train = total / inputs.nrows() as f64;
            let validation =
                validation.as_ref().map(|rows| measure.mean_loss(&parameters, &rows.inputs, &rows.targets));
            let losses = EpochLosses { epoch, train, validation };
            history.push(losses);
            observe(losses);
            // Without validation rows, every epoch counts as the best.
            match validation.map_or(Verdict::Best, |loss| stopping.judge(loss)) {
                Verdict::Best => {
                    best.copy_from(&parameters);
                    best_epoch = epoch;
                }
                Verdict::Wait => {}
                Verdict::Stop => break,
            }
        }
        let diverged = FitError::Diverged { epochs: history.len() };
        if best_epoch == 0 || (validation.is_some() && !stopping.best().is_finite()) {
            return Err(diverged);
        }
        if let Some(scaler) = standardiser {
            scaler.fold_into(&mut best);
        }
        let mlp = best.into_mlp(self.activation).map_err(|_| diverged)?;
        Ok(FittedMlp { mlp, history, best_epoch })
    }
}

/// Fits for all epochs, since early stopping needs validation rows.
impl Fit<Array2<f32>, Array2<f32>, FitError> for MlpParams {
    type Object = FittedMlp;

    fn fit(&self, dataset: &DatasetBase<Array2<f32>, Array2<f32>>) -> Result<FittedMlp, FitError> {
        self.run(dataset, None, |_| {})
    }
}

/// Predicts probabilities of shape `[rows, labels]`.
impl PredictInplace<Array2<f32>, Array2<f32>> for FittedMlp {
    fn predict_inplace<'a>(&'a self, vectors: &'a Array2<f32>, probabilities: &mut Array2<f32>) {
        probabilities.assign(&self.mlp.probabilities(&vectors.view()));
    }

    fn default_target(&self, vectors: &Array2<f32>) -> Array2<f32> {
        Array2::zeros((vectors.nrows(), self.mlp.labels()))
    }
}

/// Inputs and targets in row-major order, from which batches are gathered. Copied only if
/// necessary.
struct Rows<'a> {
    inputs: Cow<'a, Array2<f32>>,
    targets: Cow<'a, Array2<f32>>,
}

impl<'a> Rows<'a> {
    fn of(data: &'a LabelledVectors, standardiser: Option<&Standardiser>) -> Self {
        let inputs = contiguous(data.records());
        let inputs = match standardiser {
            Some(standardiser) => Cow::Owned(standardiser.apply(&inputs)),
            None => inputs,
        };
        Self { inputs, targets: contiguous(data.targets()) }
    }
}

fn contiguous(matrix: &Array2<f32>) -> Cow<'_, Array2<f32>> {
    if matrix.is_standard_layout() {
        Cow::Borrowed(matrix)
    } else {
        Cow::Owned(matrix.as_standard_layout().into_owned())
    }
}

fn check_shapes(what: &'static str, data: &LabelledVectors, like: &LabelledVectors) -> Result<(), FitError> {
    let (vectors, targets) = (data.records().dim(), data.targets().dim());
    let expected = (
        (targets.0.max(1), like.records().ncols().max(1)),
        (vectors.0.max(1), like.targets().ncols().max(1)),
    );
    if (vectors, targets) == expected {
        return Ok(());
    }
    let show = |(vectors, targets)| format!("vectors of shape {vectors:?} and targets of {targets:?}");
    Err(FitError::Shape { what, expected: show(expected), found: show((vectors, targets)) })
}

#[cfg(test)]
mod tests {
    use genre_model::Activation;
    use linfa::dataset::Dataset;
    use linfa::traits::Predict as _;
    use rand::Rng as _;

    use super::*;

    /// Two inputs. The labels are "different signs", which is not linearly separable, and "the
    /// first is positive".
    fn signs(rows: usize, seed: u64) -> LabelledVectors {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let inputs = Array2::from_shape_simple_fn((rows, 2), || rng.gen_range(-1.0_f32..1.0));
        let targets = Array2::from_shape_fn((rows, 2), |(row, label)| {
            let (a, b) = (inputs[[row, 0]] > 0.0, inputs[[row, 1]] > 0.0);
            f32::from(u8::from(if label == 0 { a != b } else { a }))
        });
        Dataset::new(inputs, targets)
    }

    fn params() -> MlpParams {
        MlpParams { units: 32, learning_rate: 0.01, batch_size: 32, max_epochs: 60, ..MlpParams::default() }
    }

    fn accuracy(fitted: &FittedMlp, data: &LabelledVectors) -> f64 {
        let predicted: Array2<f32> = fitted.predict(data.records());
        let right = predicted.iter().zip(data.targets()).filter(|(p, y)| (**p > 0.5) == (**y > 0.5)).count();
        right as f64 / data.targets().len() as f64
    }

    #[test]
    fn learns_labels_that_are_not_linearly_separable() {
        let (train, validation, test) = (signs(1200, 1), signs(300, 2), signs(500, 3));
        for activation in [Activation::Sigmoid, Activation::Relu, Activation::Gelu] {
            let params = MlpParams { activation, standardise: true, max_epochs: 150, ..params() };
            let fitted = params.fit_validated(&train, &validation, |_| {}).unwrap();
            assert!(accuracy(&fitted, &test) > 0.95, "{activation:?}: {}", accuracy(&fitted, &test));
        }
    }

    #[test]
    fn fits_are_repeatable_and_depend_on_the_seed() {
        let (train, validation) = (signs(200, 1), signs(50, 2));
        let fit = |seed| {
            let (dropout, input_dropout, weight_decay) = (0.3, 0.1, 0.01);
            let params = MlpParams { dropout, input_dropout, weight_decay, max_epochs: 5, seed, ..params() };
            params.fit_validated(&train, &validation, |_| {}).unwrap()
        };
        assert_eq!(fit(7), fit(7));
        assert_ne!(fit(7).mlp, fit(8).mlp);
    }

    #[test]
    fn keeps_the_best_epoch_and_stops_when_patience_ends() {
        let (train, validation) = (signs(40, 1), signs(40, 2));
        let activation = Activation::Relu;
        let params = MlpParams { activation, learning_rate: 0.05, max_epochs: 500, patience: 3, ..params() };
        let mut epochs = 0;
        let fitted = params.fit_validated(&train, &validation, |_| epochs += 1).unwrap();
        assert_eq!((fitted.history.len(), epochs), (fitted.best_epoch + 3, fitted.best_epoch + 3));
        let loss = |epoch: &EpochLosses| epoch.validation.unwrap();
        let best = &fitted.history[fitted.best_epoch - 1];
        assert!(fitted.history.iter().all(|epoch| loss(epoch) > loss(best) - 1e-4));
    }

    #[test]
    fn fits_through_the_trait_of_linfa() {
        let fitted: FittedMlp = MlpParams { max_epochs: 3, ..params() }.fit(&signs(100, 1)).unwrap();
        assert_eq!((fitted.best_epoch, fitted.history.len()), (3, 3));
        let error: Result<FittedMlp, FitError> = MlpParams { units: 0, ..params() }.fit(&signs(10, 1));
        assert!(matches!(error, Err(FitError::Param(_))));
    }

    #[test]
    fn rejects_shapes_that_do_not_match() {
        let train = signs(10, 1);
        let other = Dataset::new(Array2::zeros((10, 3)), Array2::zeros((10, 2)));
        let none = Dataset::new(Array2::zeros((0, 2)), Array2::zeros((0, 2)));
        let params = params();
        assert!(matches!(params.fit_validated(&train, &other, |_| {}), Err(FitError::Shape { .. })));
        assert!(matches!(params.fit_validated(&none, &train, |_| {}), Err(FitError::Shape { .. })));
    }

    #[test]
    fn rejects_a_loss_that_is_not_finite() {
        let mut train = signs(10, 1);
        train.records.fill(f32::NAN);
        let result = params().fit_validated(&train, &signs(10, 2), |_| {});
        assert!(matches!(result, Err(FitError::Diverged { .. })));
    }
}
