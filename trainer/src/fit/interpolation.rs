//! Interpolates between a network and a word model, with a weight chosen on validation movies.

use genre_model::{Mlp, WordFeatures, WordWeights, sigmoid};
use ndarray::{Array1, Array2};

use crate::fit::error::FitJobError;
use crate::fit::word_model::WordModel;
use crate::metrics::binary_cross_entropy;

/// Weights of the word model that are tried.
const WEIGHTS: [f32; 11] = [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5];

/// A network and a word model whose logits are added.
#[derive(Debug, Clone)]
pub(crate) struct Interpolation {
    /// The network, scaled by its weight; its bias includes that of the word model.
    pub(crate) mlp: Mlp,
    /// The word model, scaled by its weight.
    pub(crate) words: Option<WordWeights>,
}

impl Interpolation {
    /// Uses the network alone.
    pub(crate) fn of(mlp: Mlp) -> Self {
        Self { mlp, words: None }
    }

    /// Returns logits of shape `[movies, labels]`.
    pub(crate) fn logits(&self, vectors: &Array2<f32>, movies: &[WordFeatures]) -> Array2<f32> {
        let mut logits = self.mlp.logits(&vectors.view());
        if let Some(words) = &self.words {
            words.add_to(&mut logits, movies);
        }
        logits
    }

    /// Chooses the weight at which `(1 - weight) · network + weight · words` has the lowest
    /// cross-entropy. Returns the interpolation and the weight. `network` holds the logits of the
    /// network for the movies.
    pub(crate) fn chosen(
        mlp: Mlp,
        network: &Array2<f32>,
        words: WordModel,
        movies: &[WordFeatures],
        targets: &Array2<f32>,
    ) -> Result<(Self, f32), FitJobError> {
        let of_words = words.logits(movies);
        let loss = |weight: f32| {
            let probabilities = (network * (1.0 - weight) + &of_words * weight).mapv_into(sigmoid);
            binary_cross_entropy(&probabilities.view(), &targets.view())
        };
        let weight = WEIGHTS.into_iter().min_by(|a, b| loss(*a).total_cmp(&loss(*b))).unwrap_or_default();
        let WordModel { weights, bias } = words;
        let interpolation =
            Self { mlp, words: Some(weights) }.times(1.0 - weight, weight, &(bias * weight))?;
        Ok((interpolation, weight))
    }

    /// Divides all logits by a temperature.
    pub(crate) fn cooled(self, temperature: f64) -> Result<Self, FitJobError> {
        let factor = (1.0 / temperature) as f32;
        let none = Array1::zeros(self.mlp.labels());
        self.times(factor, factor, &none)
    }

    fn times(self, mlp: f32, words: f32, bias: &Array1<f32>) -> Result<Self, FitJobError> {
        let model_error = |error: &dyn std::fmt::Display| FitJobError::Model(error.to_string());
        Ok(Self {
            mlp: self.mlp.rescaled(mlp, bias).map_err(|error| model_error(&error))?,
            words: self
                .words
                .map(|weights| weights.times(words))
                .transpose()
                .map_err(|error| model_error(&error))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use genre_model::{Activation, Dense};
    use ndarray::array;

    use super::*;
    use crate::fit::word_model;

    /// A network of one input that predicts its label above one half.
    fn network(weight: f32) -> Mlp {
        let hidden = Dense { weight: array![[1.0]], bias: Array1::zeros(1) };
        let output = Dense { weight: array![[weight]], bias: array![-weight / 2.0] };
        Mlp::new(hidden, Activation::Relu, output).unwrap()
    }

    #[test]
    fn logits_are_the_weighted_sum_of_both() {
        let has = |movie: usize| movie.is_multiple_of(2);
        let movies: Vec<_> =
            (0..40).map(|movie| WordFeatures::of("", if has(movie) { "storm" } else { "calm" })).collect();
        let targets = Array2::from_shape_fn((40, 1), |(movie, _)| f32::from(u8::from(has(movie))));
        let vectors = Array2::from_shape_fn((40, 1), |(movie, _)| (movie % 3) as f32 * 0.5);
        let words = word_model::fit(&movies, &targets, 4.0).unwrap();
        let (network, of_words) = (network(2.0).logits(&vectors.view()), words.logits(&movies));
        let (interpolation, weight) =
            Interpolation::chosen(self::network(2.0), &network, words, &movies, &targets).unwrap();
        assert!((weight - 0.5).abs() < 1e-6, "the network knows nothing about the label: {weight}");
        let expected = (network * (1.0 - weight) + of_words * weight) / 2.0;
        let found = interpolation.cooled(2.0).unwrap().logits(&vectors, &movies);
        assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-4));
    }

    #[test]
    fn an_uninformative_word_model_gets_no_weight() {
        let movies: Vec<_> =
            (0..400).map(|movie| WordFeatures::of("", &format!("word{}", movie * 7919 % 397))).collect();
        let targets = Array2::from_shape_fn((400, 1), |(movie, _)| f32::from(u8::from(movie % 2 == 0)));
        let words = word_model::fit(
            &movies[200..],
            &targets.select(ndarray::Axis(0), &(200..400).collect::<Vec<_>>()),
            16.0,
        )
        .unwrap();
        let sure = network(12.0);
        let outputs = sure.logits(&targets.view());
        let (_, weight) = Interpolation::chosen(sure, &outputs, words, &movies, &targets).unwrap();
        assert!(weight < 0.11, "{weight}");
    }
}
