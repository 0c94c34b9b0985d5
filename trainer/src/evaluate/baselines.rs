//! Baselines that a model must beat: logistic regression on the same vectors, and the frequencies
//! of genres.
//!
//! Both have the form of a model file, so all code that measures models can measure them.

use std::borrow::Cow;

use genre_model::{Activation, Dense, GenreModel, Mlp};
use linfa::dataset::DatasetBase;
use linfa::traits::Fit as _;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2, ArrayView1, Axis};
use rayon::prelude::*;

use crate::data::training_data::FittingData;
use crate::fit::error::FitJobError;
use crate::fit::interpolation::Interpolation;
use crate::fit::job::model_of;
use crate::fit::thresholds::ThresholdRule;
use crate::fit::word_model::prior_log_odds;

/// Steps of L-BFGS for each genre.
const ITERATIONS: u64 = 30;

/// Fits linfa's logistic regression, one genre against the rest, with its default L2 penalty. If
/// all or no training movies have a genre, that share becomes its probability.
pub fn logistic(data: &FittingData) -> Result<GenreModel, FitJobError> {
    let records = data.train().records().mapv(f64::from);
    let targets = data.train().targets();
    let (labels, dimension) = (targets.ncols(), records.ncols());
    let fit_one = |label| {
        let targets = targets.column(label);
        let known: Vec<usize> = (0..targets.len()).filter(|row| !targets[*row].is_nan()).collect();
        let records = if known.len() == targets.len() {
            Cow::Borrowed(&records)
        } else {
            Cow::Owned(records.select(Axis(0), &known))
        };
        one_against_rest(&records, &targets.select(Axis(0), &known).view())
    };
    let rows: Vec<_> = (0..labels).into_par_iter().map(fit_one).collect();
    // relu(x) - relu(-x) = x
    let eye = Array2::<f32>::eye(dimension);
    let hidden =
        Dense { weight: ndarray::concatenate![Axis(0), eye, -&eye], bias: Array1::zeros(2 * dimension) };
    let mut weight = Array2::zeros((labels, 2 * dimension));
    for (mut to, (from, _)) in weight.rows_mut().into_iter().zip(&rows) {
        for (column, value) in from.iter().enumerate() {
            (to[column], to[dimension + column]) = (*value as f32, -*value as f32);
        }
    }
    let bias = rows.iter().map(|(_, bias)| *bias as f32).collect();
    finish(data, "logistic regression (linfa), one genre against the rest", hidden, Dense { weight, bias })
}

/// Predicts the share of each genre among the training movies, for every movie.
pub fn majority(data: &FittingData) -> Result<GenreModel, FitJobError> {
    let targets = data.train().targets();
    let dimension = data.train().records().ncols();
    let hidden = Dense { weight: Array2::zeros((1, dimension)), bias: Array1::zeros(1) };
    let bias = targets.columns().into_iter().map(|column| prior_log_odds(&column)).collect();
    let output = Dense { weight: Array2::zeros((targets.ncols(), 1)), bias };
    finish(data, "majority: each genre's share of the training movies", hidden, output)
}

fn one_against_rest(records: &Array2<f64>, targets: &ArrayView1<'_, f32>) -> (Array1<f64>, f64) {
    let has = targets.mapv(|target| target > 0.5);
    let constant = || (Array1::zeros(records.ncols()), f64::from(prior_log_odds(targets)));
    let dataset = DatasetBase::new(records.view(), has.view());
    let Ok(fitted) = LogisticRegression::default().max_iterations(ITERATIONS).fit(&dataset) else {
        return constant();
    };
    // linfa does not state which class is positive; the mean scores of both classes show it.
    let scores = records.dot(fitted.params()) + fitted.intercept();
    let mean = |wanted: bool| {
        let of_class = scores.iter().zip(&has).filter(|(_, has)| **has == wanted).map(|(score, _)| *score);
        let (count, sum) = of_class.fold((0_u32, 0.0), |(count, sum), score| (count + 1, sum + score));
        sum / f64::from(count.max(1))
    };
    let sign = if mean(true) >= mean(false) { 1.0 } else { -1.0 };
    (fitted.params() * sign, fitted.intercept() * sign)
}

fn finish(data: &FittingData, name: &str, hidden: Dense, output: Dense) -> Result<GenreModel, FitJobError> {
    let mlp =
        Mlp::new(hidden, Activation::Relu, output).map_err(|error| FitJobError::Model(error.to_string()))?;
    // The key of earlier model files for the preset.
    let hyper_parameters = [("recipe".to_owned(), name.to_owned())].into();
    model_of(data, Interpolation::of(mlp), ThresholdRule::Global, hyper_parameters, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::evaluation::Evaluation;
    use crate::testing::vectors;
    use crate::{Split, SplitChoice};

    #[test]
    fn regression_learns_linearly_separable_labels_and_beats_frequencies() {
        let all = vectors(2000);
        let data = FittingData::of(&all).unwrap();
        let figures = |model| Evaluation::of(&model, &all, SplitChoice::One(Split::Test)).unwrap().per_genre;
        let (line, guess) = (figures(logistic(&data).unwrap()), figures(majority(&data).unwrap()));
        // "War" is the sign of one input; "Drama" is a product of two, which no line separates.
        assert!(line[14].f1 > 0.95, "{:?}", line[14]);
        assert!(line[14].f1 > guess[14].f1 + 0.2);
        assert!(line[6].f1 < 0.8, "{:?}", line[6]);
    }

    #[test]
    fn majority_predicts_the_share_of_each_genre_for_every_movie() {
        let all = vectors(1000);
        let data = FittingData::of(&all).unwrap();
        let model = majority(&data).unwrap();
        let probabilities = model.probabilities(&all.vectors.view(), &all.word_features);
        let share = data.train().targets().column(6).mean().unwrap();
        assert!(probabilities.column(6).iter().all(|p| (p - share).abs() < 2e-3));
    }
}
