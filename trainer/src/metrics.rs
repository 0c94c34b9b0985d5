//! Metrics of predictions: counts, F1, calibration error, cross-entropy.
//!
//! linfa computes metrics of single-label classes; these are over several labels per movie. A target
//! is 1, 0, or NaN where nobody knows whether the movie has the genre; such pairs are not counted.

use ndarray::{Array2, ArrayView2, Zip};
use serde::Serialize;

/// Bins of the calibration error and of the reliability plot.
pub const BINS: usize = 15;
/// Keras clips probabilities at this value before it takes their logarithm.
const SMALLEST_PROBABILITY: f64 = 1e-7;

/// How often a genre was predicted, and how often movies have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Movies with the genre for which it was predicted.
    pub true_positives: u64,
    /// Movies without the genre for which it was predicted.
    pub false_positives: u64,
    /// Movies with the genre for which it was not predicted.
    pub false_negatives: u64,
}

impl Counts {
    /// Share of correct predictions, or 0 without predictions.
    #[must_use]
    pub fn precision(self) -> f64 {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Share of the movies of the genre for which it was predicted, or 0 without such movies.
    #[must_use]
    pub fn recall(self) -> f64 {
        ratio(self.true_positives, self.support())
    }

    /// Harmonic mean of precision and recall, `2 TP / (2 TP + FP + FN)`, or 0 if undefined.
    #[must_use]
    pub fn f1(self) -> f64 {
        let twice = 2 * self.true_positives;
        ratio(twice, twice + self.false_positives + self.false_negatives)
    }

    /// Movies with the genre.
    #[must_use]
    pub fn support(self) -> u64 {
        self.true_positives + self.false_negatives
    }

    fn add(self, other: Self) -> Self {
        Self {
            true_positives: self.true_positives + other.true_positives,
            false_positives: self.false_positives + other.false_positives,
            false_negatives: self.false_negatives + other.false_negatives,
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Counts predictions per genre. `probabilities` and `targets` have shape `[movies, genres]`,
/// `thresholds` one entry per genre. A genre is predicted if its probability exceeds its threshold.
#[must_use]
pub fn count(probabilities: &Array2<f32>, targets: &Array2<f32>, thresholds: &[f32]) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); thresholds.len()];
    for (probabilities, targets) in probabilities.rows().into_iter().zip(targets.rows()) {
        for (((probability, target), threshold), count) in
            probabilities.iter().zip(targets).zip(thresholds).zip(&mut counts)
        {
            match (probability > threshold, *target > 0.5) {
                (true, true) => count.true_positives += 1,
                (true, false) if target.is_nan() => {}
                (true, false) => count.false_positives += 1,
                (false, true) => count.false_negatives += 1,
                (false, false) => {}
            }
        }
    }
    counts
}

/// F1 over all pairs of movie and genre.
#[must_use]
pub fn micro_f1(counts: &[Counts]) -> f64 {
    counts.iter().copied().fold(Counts::default(), Counts::add).f1()
}

/// Mean F1 of the genres. An undefined F1 counts as 0.
#[must_use]
pub fn macro_f1(counts: &[Counts]) -> f64 {
    counts.iter().map(|count| count.f1()).sum::<f64>() / counts.len().max(1) as f64
}

/// Pairs of movie and genre with similar probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct ReliabilityBin {
    /// Pairs in the bin.
    pub pairs: u64,
    /// Sum of their probabilities.
    pub probability: f64,
    /// Number of pairs in which the movie has the genre.
    pub positives: f64,
}

/// Sorts all pairs into 15 bins of equal width by probability, from 0 to 1 inclusive.
#[must_use]
pub fn reliability(probabilities: &Array2<f32>, targets: &Array2<f32>) -> [ReliabilityBin; BINS] {
    let mut bins = [ReliabilityBin::default(); BINS];
    Zip::from(probabilities).and(targets).for_each(|probability, target| {
        if target.is_nan() {
            return;
        }
        let bin = &mut bins[((probability * BINS as f32) as usize).min(BINS - 1)];
        bin.pairs += 1;
        bin.probability += f64::from(*probability);
        bin.positives += f64::from(*target);
    });
    bins
}

/// Expected calibration error (Guo et al., 2017, arXiv:1706.04599) over all pairs of movie and
/// genre: the distance between mean probability and frequency of a bin, weighted by the pairs in
/// the bin.
#[must_use]
pub fn expected_calibration_error(probabilities: &Array2<f32>, targets: &Array2<f32>) -> f64 {
    let bins = reliability(probabilities, targets);
    // n/N · |mean probability - frequency| is |difference of their sums| / N.
    let pairs: u64 = bins.iter().map(|bin| bin.pairs).sum();
    bins.iter().map(|bin| (bin.probability - bin.positives).abs()).sum::<f64>() / pairs.max(1) as f64
}

/// Mean binary cross-entropy over all pairs of movie and genre, in nats.
#[must_use]
pub fn binary_cross_entropy(probabilities: &ArrayView2<'_, f32>, targets: &ArrayView2<'_, f32>) -> f64 {
    let (mut total, mut pairs) = (0.0, 0_u64);
    Zip::from(probabilities).and(targets).for_each(|probability, target| {
        if target.is_nan() {
            return;
        }
        pairs += 1;
        let p = f64::from(*probability).clamp(SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY);
        let y = f64::from(*target);
        total -= y * p.ln() + (1.0 - y) * (1.0 - p).ln();
    });
    total / pairs.max(1) as f64
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metrics_match_values_computed_by_hand() {
        let probabilities = array![[0.9, 0.4], [0.6, 0.2], [0.1, 0.7]];
        let targets = array![[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]];
        let counts = count(&probabilities, &targets, &[0.5, 0.5]);
        // first genre: TP 1, FP 1, FN 1; second: TP 1, FP 0, FN 1
        assert_abs_diff_eq!(counts[0].f1(), 0.5);
        assert_abs_diff_eq!(counts[1].precision(), 1.0);
        assert_abs_diff_eq!(counts[1].recall(), 0.5);
        assert_abs_diff_eq!(micro_f1(&counts), 4.0 / (4.0 + 1.0 + 2.0));
        assert_abs_diff_eq!(macro_f1(&counts), f64::midpoint(0.5, 2.0 / 3.0));
        let certain = array![[0.25, 0.25]];
        assert_abs_diff_eq!(
            binary_cross_entropy(&certain.view(), &array![[1.0, 0.0]].view()),
            -(0.25_f64.ln() + 0.75_f64.ln()) / 2.0
        );
        // one bin: mean probability 0.25, a half is there
        assert_abs_diff_eq!(expected_calibration_error(&certain, &array![[1.0, 0.0]]), 0.25);
    }

    #[test]
    fn pairs_of_unknown_targets_are_not_counted() {
        let unknown = f32::NAN;
        let (probabilities, targets) =
            (array![[0.9, 0.4], [0.6, 0.8]], array![[1.0, 0.0], [unknown, unknown]]);
        let counts = count(&probabilities, &targets, &[0.5, 0.5]);
        assert_eq!(counts.iter().map(|count| count.false_positives).sum::<u64>(), 0);
        let (known, known_targets) = (array![[0.9, 0.4]], array![[1.0, 0.0]]);
        assert_abs_diff_eq!(
            binary_cross_entropy(&probabilities.view(), &targets.view()),
            binary_cross_entropy(&known.view(), &known_targets.view())
        );
        assert_abs_diff_eq!(
            expected_calibration_error(&probabilities, &targets),
            expected_calibration_error(&known, &known_targets)
        );
    }

    #[test]
    fn an_undefined_f1_is_0() {
        let counts = count(&array![[0.1]], &array![[0.0]], &[0.5]);
        assert_abs_diff_eq!(counts[0].f1(), 0.0);
        assert_abs_diff_eq!(macro_f1(&counts), 0.0);
    }

    type Pairs = (Array2<f32>, Array2<f32>, Vec<f32>);

    fn pairs() -> impl Strategy<Value = Pairs> {
        (1_usize..30, 1_usize..6).prop_flat_map(|(rows, labels)| {
            let size = rows * labels;
            let matrix = move |values: Vec<f32>| Array2::from_shape_vec((rows, labels), values).unwrap();
            (
                prop::collection::vec(0.0_f32..=1.0, size).prop_map(matrix),
                prop::collection::vec(prop::bool::ANY.prop_map(|b| f32::from(u8::from(b))), size)
                    .prop_map(matrix),
                prop::collection::vec(0.0_f32..=1.0, labels),
            )
        })
    }

    proptest! {
        #[test]
        fn f1_is_the_harmonic_mean_of_naive_precision_and_recall((p, y, t) in pairs()) {
            let counts = count(&p, &y, &t);
            let mut f1s = Vec::new();
            let (mut all_hits, mut all_predicted, mut all_there) = (0.0, 0.0, 0.0);
            for label in 0..t.len() {
                let predicted = |row: &usize| p[[*row, label]] > t[label];
                let there = |row: &usize| y[[*row, label]] > 0.5;
                let hits = (0..p.nrows()).filter(|row| predicted(row) && there(row)).count() as f64;
                let number = |f: &dyn Fn(&usize) -> bool| (0..p.nrows()).filter(|row| f(row)).count() as f64;
                let (predicted, there) = (number(&predicted), number(&there));
                let f1 = if hits == 0.0 { 0.0 } else { 2.0 / (predicted / hits + there / hits) };
                prop_assert!((counts[label].f1() - f1).abs() < 1e-12);
                f1s.push(f1);
                all_hits += hits;
                all_predicted += predicted;
                all_there += there;
            }
            let micro = if all_hits == 0.0 { 0.0 } else { 2.0 / (all_predicted / all_hits + all_there / all_hits) };
            prop_assert!((micro_f1(&counts) - micro).abs() < 1e-12);
            prop_assert!((macro_f1(&counts) - f1s.iter().sum::<f64>() / f1s.len() as f64).abs() < 1e-12);
        }

        #[test]
        fn the_calibration_error_matches_a_naive_one((p, y, _) in pairs()) {
            let mut error = 0.0;
            for bin in 0..15 {
                let inside: Vec<_> = p
                    .iter()
                    .zip(&y)
                    .filter(|(p, _)| ((**p * 15.0).floor() as usize).min(14) == bin)
                    .collect();
                if inside.is_empty() {
                    continue;
                }
                let n = inside.len() as f64;
                let confidence = inside.iter().map(|(p, _)| f64::from(**p)).sum::<f64>() / n;
                let share = inside.iter().map(|(_, y)| f64::from(**y)).sum::<f64>() / n;
                error += n / p.len() as f64 * (confidence - share).abs();
            }
            let found = expected_calibration_error(&p, &y);
            prop_assert!((found - error).abs() < 1e-9);
            prop_assert!((0.0..=1.0).contains(&found));
        }
    }
}
