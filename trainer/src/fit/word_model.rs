//! The word model: logistic regression with an L2 penalty over hashed words, one genre against the
//! rest.
//!
//! Minimises `|w|² / 2 + cost · Σ ln(1 + e^(-y (w·x + b)))` over `w` and `b`, as liblinear does
//! (Fan et al., 2008), by the L-BFGS of argmin. linfa's logistic regression takes dense matrices; a
//! movie uses about 70 of 65,536 buckets.

use argmin::core::{CostFunction, Error, Executor, Gradient, State as _};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use genre_model::{WordFeatures, WordWeights};
use ndarray::{Array1, Array2, ArrayView1};
use rayon::prelude::*;

use crate::fit::error::FitJobError;

/// Buckets that words are hashed into: twice the number of distinct words in 13,000 overviews.
const BUCKETS: usize = 1 << 16;
/// The most steps of L-BFGS for each genre.
const ITERATIONS: u64 = 100;
/// Gradient changes that L-BFGS remembers.
const MEMORY: usize = 7;
/// Length of the gradient below which L-BFGS stops; losses are in the hundreds.
const GRADIENT: f64 = 1e-2;

/// A fitted word model.
pub(crate) struct WordModel {
    /// The weight of each bucket for each label.
    pub(crate) weights: WordWeights,
    /// Shape `[labels]`.
    pub(crate) bias: Array1<f32>,
}

impl WordModel {
    /// Returns logits of shape `[movies, labels]`.
    pub(crate) fn logits(&self, movies: &[WordFeatures]) -> Array2<f32> {
        let mut logits = Array2::zeros((movies.len(), self.bias.len())) + &self.bias;
        self.weights.add_to(&mut logits, movies);
        logits
    }
}

/// Fits `targets` of shape `[movies, labels]`: 1, 0, or NaN if unknown. A higher `cost` of errors weakens the penalty on
/// weights.
pub(crate) fn fit(
    movies: &[WordFeatures],
    targets: &Array2<f32>,
    cost: f64,
) -> Result<WordModel, FitJobError> {
    let (rows, used) = rows_of(movies);
    let fit_one = |label| one_against_rest(&rows, used.len(), targets.column(label), cost);
    let fitted: Vec<_> = (0..targets.ncols()).into_par_iter().map(fit_one).collect();
    let mut weights = Array2::zeros((BUCKETS, targets.ncols()));
    let mut bias = Array1::zeros(targets.ncols());
    for (label, parameters) in fitted.into_iter().enumerate() {
        let parameters = parameters.map_err(|error| FitJobError::WordModel(error.to_string()))?;
        for (bucket, weight) in used.iter().zip(&parameters) {
            weights[[*bucket, label]] = *weight as f32;
        }
        bias[label] = parameters[used.len()] as f32;
    }
    let weights =
        WordWeights::quantised(&weights).map_err(|error| FitJobError::WordModel(error.to_string()))?;
    Ok(WordModel { weights, bias })
}

/// Returns the features of each movie over the buckets in use, and those buckets. Buckets are
/// numbered in the order of their first use; a bucket that no movie uses keeps weight 0.
fn rows_of(movies: &[WordFeatures]) -> (Vec<Vec<(usize, f64)>>, Vec<usize>) {
    let (mut numbers, mut used) = (vec![None; BUCKETS], Vec::new());
    let mut number = |bucket: usize| {
        *numbers[bucket].get_or_insert_with(|| {
            used.push(bucket);
            used.len() - 1
        })
    };
    let rows = movies
        .iter()
        .map(|movie| {
            movie.features(BUCKETS).map(|(bucket, value)| (number(bucket), f64::from(value))).collect()
        })
        .collect();
    (rows, used)
}

/// Returns the weights of the buckets, followed by the bias.
fn one_against_rest(
    rows: &[Vec<(usize, f64)>],
    buckets: usize,
    targets: ArrayView1<'_, f32>,
    cost: f64,
) -> Result<Array1<f64>, Error> {
    // The sign 0 of an unknown target takes its movie out of the gradient.
    let signs = targets.mapv(|target| match target {
        _ if target.is_nan() => 0.0,
        _ if target > 0.5 => 1.0,
        _ => -1.0,
    });
    let mut start = Array1::zeros(buckets + 1);
    // Start at the share of the genre, which is the best guess without known words, because the fit
    // then converges sooner.
    start[buckets] = f64::from(prior_log_odds(&targets));
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY).with_tolerance_grad(GRADIENT)?;
    let problem = Problem { rows, buckets, signs, cost };
    let result = Executor::new(problem, solver)
        .configure(|state| state.param(start.clone()).max_iters(ITERATIONS))
        .run()?;
    Ok(result.state().get_best_param().cloned().unwrap_or(start))
}

/// Returns the log-odds that a movie has a genre, with one movie added on either side. Targets are 1,
/// 0, or NaN if unknown.
pub(crate) fn prior_log_odds(targets: &ArrayView1<'_, f32>) -> f32 {
    let known = targets.iter().filter(|target| !target.is_nan());
    let (positives, movies) =
        known.fold((0.0, 0.0), |(sum, movies), target| (sum + target, movies + 1.0_f32));
    let share = (positives + 1.0) / (movies + 2.0);
    (share / (1.0 - share)).ln()
}

struct Problem<'a> {
    rows: &'a [Vec<(usize, f64)>],
    buckets: usize,
    signs: Array1<f64>,
    cost: f64,
}

impl Problem<'_> {
    /// `y (w·x + b)` of each movie.
    fn margins<'a>(&'a self, parameters: &'a Array1<f64>) -> impl Iterator<Item = f64> + 'a {
        let bias = parameters[self.buckets];
        self.rows.iter().zip(&self.signs).map(move |(row, sign)| {
            sign * (bias + row.iter().map(|(bucket, value)| parameters[*bucket] * value).sum::<f64>())
        })
    }
}

impl CostFunction for Problem<'_> {
    type Param = Array1<f64>;
    type Output = f64;

    fn cost(&self, parameters: &Array1<f64>) -> Result<f64, Error> {
        // ln(1 + e^-m) without overflow.
        let errors =
            self.margins(parameters).map(|margin| (-margin.abs()).exp().ln_1p() + (-margin).max(0.0));
        let bias = parameters[self.buckets];
        Ok((parameters.dot(parameters) - bias * bias) / 2.0 + self.cost * errors.sum::<f64>())
    }
}

impl Gradient for Problem<'_> {
    type Param = Array1<f64>;
    type Gradient = Array1<f64>;

    fn gradient(&self, parameters: &Array1<f64>) -> Result<Array1<f64>, Error> {
        let mut gradient = parameters.clone();
        gradient[self.buckets] = 0.0;
        for ((row, sign), margin) in self.rows.iter().zip(&self.signs).zip(self.margins(parameters)) {
            let factor = -self.cost * sign / (1.0 + margin.exp());
            for (bucket, value) in row {
                gradient[*bucket] += factor * value;
            }
            gradient[self.buckets] += factor;
        }
        Ok(gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn movies() -> (Vec<WordFeatures>, Array2<f32>) {
        let words = ["storm", "ship", "reef", "laugh", "joke", "the", "a"];
        let text = |movie: usize| {
            format!("{} {} {}", words[movie % 3], words[3 + movie / 3 % 2], words[5 + movie % 2])
        };
        // "storm" means the first genre, "joke" excludes the second, and no movie has the third.
        let has = |(movie, genre): (usize, usize)| match genre {
            0 => movie % 3 == 0,
            1 => movie / 3 % 2 == 0,
            _ => false,
        };
        let movies: Vec<_> = (0..300).map(|movie| WordFeatures::of("", &text(movie))).collect();
        let targets = Array2::from_shape_fn((300, 3), |at| f32::from(u8::from(has(at))));
        (movies, targets)
    }

    #[test]
    fn finds_the_words_of_a_genre() {
        let (movies, targets) = movies();
        let fitted = fit(&movies, &targets, 16.0).unwrap();
        let logits = fitted.logits(&movies);
        for (logit, target) in logits.iter().zip(&targets) {
            assert!((*logit > 0.0) == (*target > 0.5), "{logit} {target}");
        }
        let of = |text| fitted.weights.logits(&WordFeatures::of("", text));
        assert!(of("storm")[0] > 1.0 && of("ship")[0] < 0.0 && of("the")[0].abs() < 0.5);
        // Without a known word, only the shares of the genres remain.
        assert!(fitted.bias[2] < -3.0);
    }

    #[test]
    fn the_gradient_matches_differences_of_the_cost() {
        let (movies, targets) = movies();
        let (rows, used) = rows_of(&movies);
        let signs = targets.column(0).mapv(|target| f64::from(target) * 2.0 - 1.0);
        let problem = Problem { rows: &rows, buckets: used.len(), signs, cost: 3.0 };
        let mut at = Array1::from_shape_fn(used.len() + 1, |index| ((index as f64) * 0.7).sin());
        let gradient = problem.gradient(&at).unwrap();
        for index in [rows[0][0].0, rows[1][1].0, used.len()] {
            let step = 1e-5;
            at[index] += step;
            let above = problem.cost(&at).unwrap();
            at[index] -= 2.0 * step;
            let below = problem.cost(&at).unwrap();
            at[index] += step;
            assert!(((above - below) / (2.0 * step) - gradient[index]).abs() < 1e-3);
        }
    }

    #[test]
    fn movies_of_unknown_targets_do_not_influence_the_fit() {
        let (movies, mut targets) = movies();
        targets.column_mut(0).iter_mut().skip(150).for_each(|target| *target = f32::NAN);
        let all = fit(&movies, &targets, 16.0).unwrap();
        let known =
            fit(&movies[..150], &targets.slice_axis(ndarray::Axis(0), (..150).into()).to_owned(), 16.0);
        let logit = |model: &WordModel| model.logits(&[WordFeatures::of("", "storm ship the")])[[0, 0]];
        assert!((logit(&all) - logit(&known.unwrap())).abs() < 1e-3);
    }

    #[test]
    fn a_lower_cost_gives_smaller_weights_and_fits_are_repeatable() {
        let (movies, targets) = movies();
        let size = |cost| {
            let fitted = fit(&movies, &targets, cost).unwrap();
            fitted.weights.logits(&WordFeatures::of("", "storm"))[0]
        };
        assert!(size(0.1) < size(10.0));
        assert!((size(1.0) - size(1.0)).abs() < f32::EPSILON);
    }
}
