//! Line plots: losses by epoch, precision by recall, F1 by threshold.

use plotters::prelude::*;

use super::{FONT, SIZE};
use crate::svg::{self, Failure};

/// A named line.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The name and range of an axis.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    pub(crate) range: std::ops::Range<f64>,
}

impl Axis {
    /// An axis from 0 to 1.
    pub(crate) fn unit(name: &'static str) -> Self {
        Self { name, range: 0.0..1.0 }
    }

    /// An axis that fits all values.
    pub(crate) fn around(name: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if low > high {
            return Self::unit(name);
        }
        let margin = ((high - low) * 0.05).max(1e-3);
        Self { name, range: low - margin..high + margin }
    }
}

pub(crate) fn draw(title: &str, x: Axis, y: Axis, lines: &[Line]) -> Result<String, Failure> {
    svg::draw(SIZE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .caption(title, FONT)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(x.range, y.range)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).x_desc(x.name).y_desc(y.name).label_style(FONT).draw()?;
        for (index, line) in lines.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        if lines.len() > 1 {
            let mut labels = chart.configure_series_labels();
            labels.background_style(WHITE.mix(0.8)).label_font(FONT).draw()?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_and_names_every_line() {
        let line = |name: &str| Line { name: name.to_owned(), points: vec![(0.0, 0.1), (1.0, 0.9)] };
        let svg = draw("title", Axis::unit("a"), Axis::unit("b"), &[line("one"), line("two")]).unwrap();
        assert!(["title", "one", "two"].iter().all(|text| svg.contains(text)), "{svg}");
        assert!(svg.matches("<polyline").count() >= 2);
        assert_eq!(Axis::around("x", std::iter::empty()).range, 0.0..1.0);
    }
}
