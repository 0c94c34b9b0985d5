//! The figures and tables of the report.

use std::fmt::Write as _;

use clap::ValueEnum as _;
use genre_model::GenreModel;
use ndarray::{Array2, ArrayView1};

use crate::evaluate::evaluation::Evaluation;
use crate::evaluate::plots::curves::{Axis, Line};
use crate::evaluate::plots::{PlotError, curves, genres};
use crate::fit::loss_curves::LossCurves;
use crate::fit::thresholds::{ThresholdRule, choose};
use crate::metrics::{count, macro_f1, micro_f1};
use crate::{Split, SplitChoice, Vectors};

/// Genres with a precision-recall curve; more curves could not be told apart.
const CURVES: usize = 8;
/// Genres in the plot of confusion; more could not be read.
pub(super) const CONFUSED: usize = 40;
/// Movies in the table of the worst mistakes.
const MISTAKES: usize = 15;

/// A figure of the report.
pub struct Figure {
    /// The end of its file name, such as `loss` in `REPORT-loss.svg`.
    pub name: &'static str,
    /// The text for readers who cannot see the figure.
    pub description: &'static str,
    /// The content, as SVG.
    pub svg: String,
}

/// The probabilities of a model on some movies.
pub(super) struct Measured {
    probabilities: Array2<f32>,
    pub(super) movies: Vectors,
}

impl Measured {
    pub(super) fn of(model: &GenreModel, vectors: &Vectors, split: Split) -> Self {
        let movies = vectors.subset(split);
        Self { probabilities: model.probabilities(&movies.vectors.view(), &movies.word_features), movies }
    }

    /// Returns a table of all threshold rules, chosen and measured on the same movies.
    pub(super) fn rules(&self) -> String {
        let mut text = String::from("| rule | micro-F1 | macro-F1 |\n|---|---:|---:|\n");
        for rule in ThresholdRule::value_variants() {
            let thresholds = choose(*rule, &self.probabilities, &self.movies.targets);
            let counts = count(&self.probabilities, &self.movies.targets, thresholds.per_genre());
            let _ = writeln!(text, "| {rule} | {:.4} | {:.4} |", micro_f1(&counts), macro_f1(&counts));
        }
        text
    }

    /// Draws F1 by a global threshold from 0.02 to 0.98.
    pub(super) fn sweep(&self) -> Result<Figure, PlotError> {
        let figures = |f: fn(&[crate::metrics::Counts]) -> f64| -> Vec<(f64, f64)> {
            let step = |step: u8| {
                let threshold = f32::from(step) / 50.0;
                let thresholds = vec![threshold; self.movies.targets.ncols()];
                (f64::from(threshold), f(&count(&self.probabilities, &self.movies.targets, &thresholds)))
            };
            (1..50).map(step).collect()
        };
        let lines = [
            Line { name: "micro-F1".to_owned(), points: figures(micro_f1) },
            Line { name: "macro-F1".to_owned(), points: figures(macro_f1) },
        ];
        figure(
            "thresholds",
            "F1 by threshold",
            curves::draw("one threshold for all genres", Axis::unit("threshold"), Axis::unit("F1"), &lines),
        )
    }

    /// Draws precision by recall over all pairs, and of the most common genres.
    pub(super) fn precision_recall(&self) -> Result<Figure, PlotError> {
        let all = known(self.probabilities.iter().zip(&self.movies.targets));
        let mut lines = vec![Line { name: "all pairs".to_owned(), points: precision_recall(all) }];
        for genre in self.most_common().into_iter().take(CURVES) {
            let (scores, targets) = (self.probabilities.column(genre), self.movies.targets.column(genre));
            lines.push(Line {
                name: self.movies.labels.name(genre).to_owned(),
                points: precision_recall(known(scores.iter().zip(targets))),
            });
        }
        figure(
            "precision-recall",
            "precision by recall",
            curves::draw(
                "over all pairs, and of the most common genres",
                Axis::unit("recall"),
                Axis::unit("precision"),
                &lines,
            ),
        )
    }

    /// The labels, those of the most movies first.
    fn most_common(&self) -> Vec<usize> {
        let movies = |genre: usize| self.movies.targets.column(genre).iter().filter(|y| **y > 0.5).count();
        let mut order: Vec<usize> = (0..self.movies.labels.len()).collect();
        order.sort_by_key(|genre| std::cmp::Reverse(movies(*genre)));
        order
    }

    /// Draws how often the model missed a genre and predicted a wrong one instead.
    pub(super) fn confusion(&self, model: &GenreModel) -> Result<Figure, PlotError> {
        let thresholds = model.thresholds();
        let mut shown = self.most_common();
        shown.truncate(CONFUSED);
        shown.sort_unstable();
        let genres = shown.len();
        let (mut shares, mut movies) = (Array2::<f64>::zeros((genres, genres)), vec![0.0_f64; genres]);
        for (scores, targets) in self.probabilities.rows().into_iter().zip(self.movies.targets.rows()) {
            let is_positive = |place: usize| targets[shown[place]] > 0.5;
            let is_predicted = |place: usize| thresholds.predicts(shown[place], scores[shown[place]]);
            for row in (0..genres).filter(|row| is_positive(*row)) {
                movies[row] += 1.0;
                if is_predicted(row) {
                    continue;
                }
                for column in (0..genres).filter(|column| is_predicted(*column) && !is_positive(*column)) {
                    shares[[row, column]] += 1.0;
                }
            }
        }
        for (mut row, movies) in shares.rows_mut().into_iter().zip(movies) {
            row /= movies.max(1.0);
        }
        let labels: Vec<String> = shown.iter().map(|label| model.labels()[*label].clone()).collect();
        figure(
            "confusion",
            "share of movies that missed a genre and got another",
            genres::confusion(&labels, &shares),
        )
    }

    /// Returns a table of the movies with the highest summed cross-entropy. Movies are named by
    /// TMDB id, and by title if `titles` returns one.
    pub(super) fn worst(&self, model: &GenreModel, titles: &dyn Fn(u64) -> Option<String>) -> String {
        let loss = |scores: ArrayView1<'_, f32>, targets: ArrayView1<'_, f32>| -> f64 {
            let pairs = known(scores.iter().zip(targets)).into_iter();
            pairs.map(|(p, has)| -f64::from(if has { p } else { 1.0 - p }).max(1e-7).ln()).sum()
        };
        let mut rows: Vec<(usize, f64)> = (0..self.movies.len())
            .map(|row| (row, loss(self.probabilities.row(row), self.movies.targets.row(row))))
            .collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut text = String::from("| movie | loss | has | predicted |\n|---|---:|---|---|\n");
        for (row, loss) in rows.into_iter().take(MISTAKES) {
            let id = self.movies.ids[row];
            let movie =
                titles(id).map_or(id.to_string(), |title| format!("{id}, {}", title.replace('|', "/")));
            let names = |is: &dyn Fn(usize) -> Option<String>| {
                let names: Vec<String> = (0..model.labels().len()).filter_map(is).collect();
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            };
            let scores = self.probabilities.row(row);
            let has = names(&|genre| {
                let is_positive = self.movies.targets[[row, genre]] > 0.5;
                is_positive.then(|| format!("{} {:.2}", model.labels()[genre], scores[genre]))
            });
            let predicted = names(&|genre| {
                let is_predicted = model.thresholds().predicts(genre, scores[genre]);
                is_predicted.then(|| format!("{} {:.2}", model.labels()[genre], scores[genre]))
            });
            let _ = writeln!(text, "| {movie} | {loss:.2} | {has} | {predicted} |");
        }
        text
    }
}

/// Draws precision, recall and F1 of each genre as bars.
pub(super) fn bars(evaluation: &Evaluation) -> Result<Figure, PlotError> {
    figure("genres", "precision, recall and F1 of each genre", genres::bars(&evaluation.per_genre))
}

/// Draws losses by epoch.
pub(super) fn losses(loss_curves: &LossCurves) -> Result<Figure, PlotError> {
    let lines: Vec<Line> = loss_curves
        .members
        .iter()
        .enumerate()
        .flat_map(|(member, curve)| {
            let line = |what: &str, values: &[f64]| Line {
                name: format!("{what}, network {member}"),
                points: values.iter().enumerate().map(|(epoch, loss)| (epoch as f64 + 1.0, *loss)).collect(),
            };
            [line("training", &curve.train), line("validation", &curve.validation)]
        })
        .collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Axis::around("epoch", points().map(|point| point.0));
    let y = Axis::around("binary cross-entropy", points().map(|point| point.1));
    figure("loss", "loss by epoch", curves::draw("losses of the fit", x, y, &lines))
}

fn figure(
    name: &'static str,
    description: &'static str,
    svg: Result<String, Box<dyn std::error::Error>>,
) -> Result<Figure, PlotError> {
    let svg = svg.map_err(|error| PlotError::drawing(&error))?;
    Ok(Figure { name, description, svg })
}

/// Returns recall and precision at about a hundred thresholds, evenly spread over recall.
fn precision_recall(mut pairs: Vec<(f32, bool)>) -> Vec<(f64, f64)> {
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = pairs.iter().filter(|pair| pair.1).count().max(1) as f64;
    let (mut right, mut points) = (0.0, Vec::new());
    let mut next = 0.0;
    for (predicted, (_, is_positive)) in pairs.iter().enumerate() {
        right += f64::from(u8::from(*is_positive));
        let recall = right / positives;
        if *is_positive && recall >= next {
            points.push((recall, right / (predicted as f64 + 1.0)));
            next = recall + 0.01;
        }
    }
    points
}

/// Measures a model on the test movies.
pub(super) fn test_figures(model: &GenreModel, vectors: &Vectors) -> Result<Evaluation, PlotError> {
    Ok(Evaluation::of(model, vectors, SplitChoice::One(Split::Test))?)
}

/// Returns the probabilities of pairs of movie and label, and whether the movie has the label. Leaves
/// out pairs of which nobody knows.
fn known<'a>(pairs: impl Iterator<Item = (&'a f32, &'a f32)>) -> Vec<(f32, bool)> {
    pairs.filter(|(_, target)| !target.is_nan()).map(|(p, target)| (*p, *target > 0.5)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_order_has_precision_1_up_to_full_recall() {
        let pairs = vec![(0.1, false), (0.9, true), (0.8, true), (0.3, false)];
        assert_eq!(precision_recall(pairs), [(0.5, 1.0), (1.0, 1.0)]);
        assert_eq!(precision_recall(vec![(0.9, false), (0.5, true)]), [(1.0, 0.5)]);
        assert_eq!(precision_recall(vec![(0.9, false)]), []);
    }
}
