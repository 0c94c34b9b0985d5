//! Thresholds chosen on validation movies: above which probability a genre is predicted.

use std::fmt;

use genre_model::Thresholds;
use ndarray::{Array2, ArrayView1};

use crate::write_value_name;

/// How thresholds are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ThresholdRule {
    /// One of 0.1, 0.2, ..., 0.8 for all genres, by micro-F1: the reference system's.
    ReferenceGrid,
    /// One of 0.01, 0.02, ..., 0.99 for all genres, by micro-F1.
    Global,
    /// One a genre, by the micro-F1 of all together; drawn towards the global one where a genre is rare.
    PerGenreMicro,
    /// One a genre, by that genre's own F1; drawn towards the global one where a genre is rare.
    PerGenreMacro,
    /// The global one for genres of many movies; the rarer a genre, the nearer to the threshold with the highest F1 that
    /// its calibrated probabilities promise, without counting its few labels.
    ///
    /// Two-fold over validation movies, thirty times, it kept the micro-F1 of the global rule (0.663) with a macro-F1 of
    /// 0.568 against 0.556; the rules that count a genre's own labels gave 0.558 at best.
    ExpectedF1,
}

impl fmt::Display for ThresholdRule {
    /// Writes the name on the command line and in model files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value_name(self, f)
    }
}

/// What is found on a genre's own labels counts `n / (n + SHRINKAGE)` and what all movies or its probabilities say the
/// rest, for `n` movies of the genre in validation: a threshold found on ten movies says little about the next thousand.
pub const SHRINKAGE: f64 = 100.0;

/// Rounds of coordinate ascent; it settles in three or four.
const ROUNDS: usize = 20;

/// What each candidate threshold of a genre would predict.
struct Candidates {
    /// Movies that carry the genre.
    positives: u64,
    /// For each candidate, right predictions and predictions.
    outcomes: Vec<(u64, u64)>,
}

/// Chooses thresholds by `rule`. `probabilities` and `targets` have the shape `[movies, genres]` and must be of
/// validation movies: the choice is made on them.
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
        // Not by way of a weighted mean: it is exactly the grid's.
        ThresholdRule::ReferenceGrid | ThresholdRule::Global => vec![global; genres.len()],
        ThresholdRule::PerGenreMicro => towards_global(ascend(&genres, one_for_all)),
        ThresholdRule::PerGenreMacro => towards_global(
            genres.iter().map(|genre| best_by(grid.len(), one_for_all, |c| f1(genre, c))).collect(),
        ),
        ThresholdRule::ExpectedF1 => {
            let promised =
                probabilities.columns().into_iter().map(|column| grid[best_expected(&column, &grid)]);
            genres.iter().zip(promised).map(|(genre, own)| mean(global, own, weight(genre))).collect()
        }
    };
    Thresholds::new(rule.to_string(), global, per_genre)
        .expect("means of a grid within 0 and 1 are within 0 and 1")
}

fn candidates(probabilities: &Array2<f32>, targets: &Array2<f32>, grid: &[f32]) -> Vec<Candidates> {
    let genre = |(probabilities, targets): (ArrayView1<'_, f32>, ArrayView1<'_, f32>)| {
        let mut outcomes = vec![(0, 0); grid.len()];
        for (probability, target) in probabilities.iter().zip(targets) {
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

/// `2 TP / (predicted + positives)`, 0 when undefined.
fn f1_of(right: u64, predicted: u64, positives: u64) -> f64 {
    if right == 0 { 0.0 } else { 2.0 * right as f64 / (predicted + positives) as f64 }
}

/// The candidate with the highest F1 if each movie has the genre with exactly its probability (Lipton et al., 2014,
/// arXiv:1402.1892): `2 Σ p over those predicted / (their number + Σ p over all)`.
fn best_expected(probabilities: &ArrayView1<'_, f32>, grid: &[f32]) -> usize {
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

/// The candidate with the highest score; `preferred` wins where it is as good, then the lowest.
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

/// Coordinate ascent on micro-F1, one genre after the other, from the best single threshold.
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
        let said = Array2::from_shape_fn((rows, 3), |at| truth[at].powf([0.5, 2.0, 1.0][at.1]));
        (said, targets)
    }

    #[test]
    fn the_reference_grid_is_the_best_of_its_eight() {
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
    fn finer_rules_are_at_least_as_good_where_they_were_chosen() {
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
    fn a_rare_genre_gets_the_threshold_that_its_probabilities_promise() {
        let (mut p, mut y) = movies(2000, 4);
        // Never likely, and there in one movie: no label could say where to cut, the probabilities do.
        let column: Vec<f32> = (0..2000).map(|i| if i % 50 == 0 { 0.2 } else { 0.001 }).collect();
        p.column_mut(2).assign(&ndarray::Array1::from_vec(column));
        y.column_mut(2).fill(0.0);
        y[[0, 2]] = 1.0;
        let chosen = choose(ThresholdRule::ExpectedF1, &p, &y);
        assert!(chosen.per_genre()[2] < 0.2, "{:?}", chosen.per_genre());
        // A genre of many movies stays near the global one.
        assert!((chosen.per_genre()[0] - chosen.global()).abs() < 0.1, "{:?}", chosen.per_genre());
    }

    #[test]
    fn a_genre_without_a_movie_takes_the_global_threshold() {
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
        fn what_is_counted_for_a_candidate_is_what_its_threshold_predicts(seed in 0_u64..1000, step in 1_u8..=99) {
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
