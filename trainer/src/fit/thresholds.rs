//! Thresholds, chosen on validation movies: a genre is predicted if its probability exceeds its
//! threshold.

use std::fmt;

use genre_model::Thresholds;
use ndarray::{Array2, ArrayView1};

use crate::write_value_name;

/// How thresholds are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ThresholdRule {
    /// One of 0.1, 0.2, ..., 0.8 for all genres, by micro-F1, as in the reference system
    ReferenceGrid,
    /// One of 0.01, 0.02, ..., 0.99 for all genres, by micro-F1
    Global,
    /// One per genre, by the micro-F1 over all genres; a rare genre is drawn towards the global
    /// threshold
    PerGenreMicro,
    /// One per genre, by its own F1; a rare genre is drawn towards the global threshold
    PerGenreMacro,
    /// The global threshold for common genres; the rarer a genre, the nearer to the threshold with
    /// the highest expected F1 by its calibrated probabilities
    ExpectedF1,
}

impl fmt::Display for ThresholdRule {
    /// Writes the name on the command line and in model files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value_name(self, f)
    }
}

/// Strength of the shrinkage of per-genre thresholds. For a genre with `n` validation movies, the
/// threshold chosen by labels has weight `n / (n + SHRINKAGE)`; the rest goes to the global
/// threshold, or to the one of highest expected F1. A threshold found on ten movies says little
/// about the next thousand.
pub const SHRINKAGE: f64 = 100.0;

/// The most rounds of coordinate ascent, which converges in three or four.
const ROUNDS: usize = 20;

/// The outcome of each candidate threshold of a genre.
struct Candidates {
    /// Movies with the genre.
    positives: u64,
    /// For each candidate, the number of correct predictions and of all predictions.
    outcomes: Vec<(u64, u64)>,
}

/// Chooses thresholds by `rule`. `probabilities` and `targets` have shape `[movies, genres]` and
/// must be those of validation movies. Pairs whose target is NaN, unknown, do not count.
#[must_use]
pub fn choose(rule: ThresholdRule, probabilities: &Array2<f32>, targets: &Array2<f32>) -> Thresholds {
    let grid: Vec<f32> = match rule {
        ThresholdRule::ReferenceGrid => (1_u8..=8).map(|step| f32::from(step) / 10.0).collect(),
        _ => (1_u8..=99).map(|step| f32::from(step) / 100.0).collect(),
    };
    let genres = candidates(probabilities, targets, &grid);
    let one_for_all = best_for_all(&genres, grid.len());
    let global = grid[one_for_all];
    let weight = |genre: &Candidates| genre.positives as f64 / (genre.positives as f64 + SHRINKAGE);
    let mean = |a: f32, b: f32, weight: f64| (f64::from(a) * weight + f64::from(b) * (1.0 - weight)) as f32;
    let towards_global = |chosen: Vec<usize>| -> Vec<f32> {
        genres.iter().zip(chosen).map(|(genre, own)| mean(grid[own], global, weight(genre))).collect()
    };
    let per_genre = match rule {
        // Not a weighted mean, whose rounding would move it off the grid.
        ThresholdRule::ReferenceGrid | ThresholdRule::Global => vec![global; genres.len()],
        ThresholdRule::PerGenreMicro => towards_global(ascend(&genres, one_for_all)),
        ThresholdRule::PerGenreMacro => towards_global(
            genres.iter().map(|genre| best_by(grid.len(), one_for_all, |c| f1(genre, c))).collect(),
        ),
        ThresholdRule::ExpectedF1 => {
            let columns = probabilities.columns().into_iter().zip(targets.columns());
            let expected = columns.map(|(probabilities, targets)| {
                let known = probabilities.iter().zip(targets).filter(|(_, target)| !target.is_nan());
                grid[best_expected(&known.map(|(p, _)| *p).collect::<Vec<_>>(), &grid)]
            });
            genres.iter().zip(expected).map(|(genre, own)| mean(global, own, weight(genre))).collect()
        }
    };
    Thresholds::new(rule.to_string(), global, per_genre)
        .expect("means of a grid within 0 and 1 are within 0 and 1")
}

fn candidates(probabilities: &Array2<f32>, targets: &Array2<f32>, grid: &[f32]) -> Vec<Candidates> {
    let genre = |(probabilities, targets): (ArrayView1<'_, f32>, ArrayView1<'_, f32>)| {
        let mut outcomes = vec![(0, 0); grid.len()];
        for (probability, target) in probabilities.iter().zip(targets).filter(|(_, target)| !target.is_nan())
        {
            let exceeded = grid.partition_point(|threshold| probability > threshold);
            for (right, predicted) in &mut outcomes[..exceeded] {
                *right += u64::from(*target > 0.5);
                *predicted += 1;
            }
        }
        Candidates { positives: targets.iter().filter(|target| **target > 0.5).count() as u64, outcomes }
    };
    probabilities.columns().into_iter().zip(targets.columns()).map(genre).collect()
}

/// `2 TP / (predicted + positives)`, or 0 if undefined.
fn f1_of(right: u64, predicted: u64, positives: u64) -> f64 {
    if right == 0 { 0.0 } else { 2.0 * right as f64 / (predicted + positives) as f64 }
}

/// Returns the candidate with the highest expected F1 if probabilities are calibrated (Lipton et
/// al., 2014, arXiv:1402.1892):
/// `2 Σ p over predicted movies / (their number + Σ p over all movies)`.
fn best_expected(probabilities: &[f32], grid: &[f32]) -> usize {
    let expected: f64 = probabilities.iter().map(|p| f64::from(*p)).sum();
    best_by(grid.len(), 0, |candidate| {
        let predicted = probabilities.iter().filter(|p| **p > grid[candidate]);
        let (count, right) = predicted.fold((0_u32, 0.0), |(n, sum), p| (n + 1, sum + f64::from(*p)));
        if right > 0.0 { 2.0 * right / (f64::from(count) + expected) } else { 0.0 }
    })
}

fn f1(genre: &Candidates, candidate: usize) -> f64 {
    let (right, predicted) = genre.outcomes[candidate];
    f1_of(right, predicted, genre.positives)
}

/// Returns the candidate with the highest score. Ties go to `preferred`, then to the lowest.
fn best_by(candidates: usize, preferred: usize, score: impl Fn(usize) -> f64) -> usize {
    let (mut best, mut highest) = (preferred, score(preferred));
    for candidate in 0..candidates {
        let score = score(candidate);
        if score > highest {
            (best, highest) = (candidate, score);
        }
    }
    best
}

fn best_for_all(genres: &[Candidates], candidates: usize) -> usize {
    let positives = genres.iter().map(|genre| genre.positives).sum();
    best_by(candidates, 0, |candidate| {
        let (right, predicted) = sums(genres, |_| candidate);
        f1_of(right, predicted, positives)
    })
}

fn sums(genres: &[Candidates], chosen: impl Fn(usize) -> usize) -> (u64, u64) {
    genres.iter().enumerate().fold((0, 0), |(right, predicted), (index, genre)| {
        let (r, p) = genre.outcomes[chosen(index)];
        (right + r, predicted + p)
    })
}

/// Coordinate ascent on micro-F1, one genre after the other, from the best global threshold.
fn ascend(genres: &[Candidates], start: usize) -> Vec<usize> {
    let positives = genres.iter().map(|genre| genre.positives).sum();
    let mut chosen = vec![start; genres.len()];
    for _ in 0..ROUNDS {
        let before = chosen.clone();
        for (index, genre) in genres.iter().enumerate() {
            let (right, predicted) = sums(genres, |other| chosen[other]);
            let own = genre.outcomes[chosen[index]];
            let (right, predicted) = (right - own.0, predicted - own.1);
            chosen[index] = best_by(genre.outcomes.len(), chosen[index], |candidate| {
                let (r, p) = genre.outcomes[candidate];
                f1_of(right + r, predicted + p, positives)
            });
        }
        if chosen == before {
            break;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;
    use crate::metrics::{count, macro_f1, micro_f1};

    /// Genre 0 is common and overestimated, genre 1 is underestimated, genre 2 is rare.
    fn movies(rows: usize, seed: u64) -> (Array2<f32>, Array2<f32>) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let truth =
            Array2::from_shape_fn((rows, 3), |(_, genre)| rng.gen_range(0.0..[0.9, 0.6, 0.05][genre]));
        let targets = truth.mapv(|p: f32| f32::from(u8::from(rng.gen_range(0.0..1.0) < p)));
        let predicted = Array2::from_shape_fn((rows, 3), |at| truth[at].powf([0.5, 2.0, 1.0][at.1]));
        (predicted, targets)
    }

    #[test]
    fn the_reference_grid_chooses_the_best_of_eight() {
        let (p, y) = movies(500, 1);
        let chosen = choose(ThresholdRule::ReferenceGrid, &p, &y);
        let score = |t: f32| micro_f1(&count(&p, &y, &[t; 3]));
        let steps: Vec<f32> = (1_u8..=8).map(|step| f32::from(step) / 10.0).collect();
        assert!(steps.contains(&chosen.global()));
        assert_eq!(chosen.per_genre(), [chosen.global(); 3]);
        assert!(steps.iter().all(|t| score(*t) <= score(chosen.global())));
        assert_eq!(chosen.rule(), "reference-grid");
    }

    #[test]
    fn finer_rules_are_at_least_as_good_on_the_movies_they_are_chosen_on() {
        let (p, y) = movies(5000, 2);
        let micro = |rule| micro_f1(&count(&p, &y, choose(rule, &p, &y).per_genre()));
        assert!(micro(ThresholdRule::Global) >= micro(ThresholdRule::ReferenceGrid));
        assert!(micro(ThresholdRule::PerGenreMicro) > micro(ThresholdRule::Global) + 0.01);
        let own_f1 = |rule| macro_f1(&count(&p, &y, choose(rule, &p, &y).per_genre()));
        assert!(own_f1(ThresholdRule::PerGenreMacro) > own_f1(ThresholdRule::Global));
    }

    #[test]
    fn a_rare_genre_stays_near_the_global_threshold() {
        let (p, y) = movies(200, 3);
        let chosen = choose(ThresholdRule::PerGenreMacro, &p, &y);
        let positives = f64::from(y.column(2).sum());
        let distance = f64::from((chosen.per_genre()[2] - chosen.global()).abs());
        assert!(distance <= positives / (positives + SHRINKAGE) + 1e-6, "{distance}");
    }

    #[test]
    fn a_rare_genre_gets_the_threshold_of_its_expected_f1() {
        let (mut p, mut y) = movies(2000, 4);
        // A genre that is never likely and has one movie: its label cannot place a threshold, its
        // probabilities can.
        let column: Vec<f32> = (0..2000).map(|i| if i % 50 == 0 { 0.2 } else { 0.001 }).collect();
        p.column_mut(2).assign(&ndarray::Array1::from_vec(column));
        y.column_mut(2).fill(0.0);
        y[[0, 2]] = 1.0;
        let chosen = choose(ThresholdRule::ExpectedF1, &p, &y);
        assert!(chosen.per_genre()[2] < 0.2, "{:?}", chosen.per_genre());
        // A common genre stays near the global threshold.
        assert!((chosen.per_genre()[0] - chosen.global()).abs() < 0.1, "{:?}", chosen.per_genre());
    }

    #[test]
    fn a_genre_without_movies_gets_the_global_threshold() {
        let (mut p, mut y) = movies(200, 4);
        p.column_mut(2).fill(0.3);
        y.column_mut(2).fill(0.0);
        for rule in ThresholdRule::value_variants().iter().filter(|rule| **rule != ThresholdRule::ExpectedF1)
        {
            let chosen = choose(*rule, &p, &y);
            assert!((chosen.per_genre()[2] - chosen.global()).abs() < 1e-6, "{rule}");
        }
    }

    proptest! {
        #[test]
        fn counts_of_a_candidate_match_its_threshold(seed in 0_u64..1000, step in 1_u8..=99) {
            let (p, y) = movies(40, seed);
            let grid: Vec<f32> = (1_u8..=99).map(|step| f32::from(step) / 100.0).collect();
            let threshold = f32::from(step) / 100.0;
            let counts = count(&p, &y, &[threshold; 3]);
            for (genre, count) in candidates(&p, &y, &grid).iter().zip(counts) {
                let (right, predicted) = genre.outcomes[usize::from(step) - 1];
                prop_assert_eq!(right, count.true_positives);
                prop_assert_eq!(predicted, count.true_positives + count.false_positives);
            }
        }
    }
}
