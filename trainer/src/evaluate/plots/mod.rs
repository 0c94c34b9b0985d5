//! Plots of the metrics of a model, as SVG.

pub(crate) mod curves;
pub(crate) mod genres;

use genre_model::GenreModel;
use plotters::prelude::*;

use crate::evaluate::evaluation::{Evaluation, EvaluationError};
use crate::metrics::{self, ReliabilityBin};
use crate::svg::{self, Failure};
use crate::{Split, SplitChoice, Vectors};

/// Width and height, in pixels.
pub(crate) const SIZE: (u32, u32) = (640, 520);
pub(crate) const FONT: (&str, i32) = ("sans-serif", 15);

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const IDEAL: RGBColor = RGBColor(0x99, 0x99, 0x99);

/// Why a plot cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The model cannot be measured.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Drawing failed.
    #[error("plot: {0}")]
    Drawing(String),
}

impl PlotError {
    pub(crate) fn drawing(error: &Failure) -> Self {
        Self::Drawing(error.to_string())
    }
}

/// Draws the reliability diagram of `model` on the test movies: the frequency of a genre by its
/// predicted probability. On the diagonal, probabilities equal frequencies.
pub fn reliability(model: &GenreModel, vectors: &Vectors) -> Result<String, PlotError> {
    let figures = Evaluation::of(model, vectors, SplitChoice::One(Split::Test))?;
    let movies = vectors.subset(Split::Test);
    let probabilities = model.probabilities(&movies.vectors.view(), &movies.word_features);
    let bins = metrics::reliability(&probabilities, &movies.targets);
    draw(&bins, figures.expected_calibration_error).map_err(|error| PlotError::drawing(&error))
}

fn draw(bins: &[ReliabilityBin], error: f64) -> Result<String, Failure> {
    svg::draw(SIZE, |area| {
        let title = format!("expected calibration error {error:.4}");
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .caption(title, FONT)
            .x_label_area_size(44)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("probability")
            .y_desc("share of movies that have the genre")
            .label_style(FONT)
            .draw()?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], IDEAL.stroke_width(1)))?;
        let points: Vec<_> = bins.iter().filter(|bin| bin.pairs > 0).map(mean).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), OURS.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, OURS.filled())))?;
        Ok(())
    })
}

fn mean(bin: &ReliabilityBin) -> (f64, f64) {
    let pairs = bin.pairs as f64;
    (bin.probability / pairs, bin.positives / pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_a_point_for_each_bin_that_is_not_empty() {
        let full = ReliabilityBin { pairs: 10, probability: 4.0, positives: 5.0 };
        let svg = draw(&[full, ReliabilityBin::default(), full], 0.1).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("0.1000"));
        assert_eq!(svg.matches("<circle").count(), 2);
    }
}
