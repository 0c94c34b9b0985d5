//! Plots of genres: metrics as bars, and confusion between genres.

use ndarray::Array2;
use plotters::prelude::*;

use crate::evaluate::evaluation::GenreFigures;
use crate::svg::{self, Failure};

/// Width and least height, in pixels.
const SIZE: (u32, u32) = (980, 620);
/// The least height of a genre's bars, in pixels.
const BARS_HEIGHT: u32 = 24;
/// Characters of a label's name that a plot has room for.
const NAME: usize = 18;
const FONT: (&str, i32) = ("sans-serif", 13);
const BARS: [(&str, RGBColor); 3] = [
    ("precision", RGBColor(0x9e, 0xc5, 0xe8)),
    ("recall", RGBColor(0x5b, 0x9b, 0xd0)),
    ("F1", RGBColor(0x1f, 0x4e, 0x79)),
];
/// Pixels to the left of the first column of cells, and above the first row.
const MARGIN: (i32, i32) = (130, 120);
const CELL: (i32, i32) = (42, 24);

/// Draws precision, recall and F1 of each genre, with its number of movies.
pub(crate) fn bars(figures: &[GenreFigures]) -> Result<String, Failure> {
    let height = SIZE.1.max(pixels(figures.len()).unsigned_abs().saturating_mul(BARS_HEIGHT));
    svg::draw((SIZE.0, height), |area| {
        let genres = figures.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(160)
            .build_cartesian_2d(0.0..1.0, 0.0..genres)?;
        chart.configure_mesh().disable_y_mesh().disable_y_axis().label_style(FONT).draw()?;
        for (bar, (name, colour)) in BARS.into_iter().enumerate() {
            let rectangles = figures.iter().enumerate().map(|(place, genre)| {
                let value = [genre.precision, genre.recall, genre.f1][bar];
                let top = genres - place as f64 - 0.12 - 0.26 * bar as f64;
                Rectangle::new([(0.0, top - 0.24), (value, top)], colour.filled())
            });
            chart
                .draw_series(rectangles)?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        }
        for (place, genre) in figures.iter().enumerate() {
            let at = chart.backend_coord(&(0.0, genres - place as f64 - 0.3));
            let text = format!("{} ({})", shortened(&genre.label), genre.support);
            area.draw(&Text::new(text, (12, at.1), FONT))?;
        }
        let mut labels = chart.configure_series_labels();
        labels.background_style(WHITE.mix(0.8)).label_font(FONT).draw()?;
        Ok(())
    })
}

/// Returns the name of a label, cut to what a plot has room for.
fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

fn pixels(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Draws confusion between genres: the share of the movies of a genre (row) for which the model
/// missed that genre and predicted a wrong one (column).
pub(crate) fn confusion(labels: &[String], shares: &Array2<f64>) -> Result<String, Failure> {
    let genres = pixels(labels.len());
    let size = ((MARGIN.0 + genres * CELL.0 + 20) as u32, (MARGIN.1 + genres * CELL.1 + 20) as u32);
    svg::draw(size, |area| {
        let highest = shares.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for (row, label) in labels.iter().enumerate() {
            let (place, shown) = (pixels(row), shortened(label));
            area.draw(&Text::new(shown.clone(), (8, MARGIN.1 + place * CELL.1 + 6), FONT))?;
            let upright = FONT.into_font().transform(FontTransform::Rotate270);
            area.draw(&Text::new(shown, (MARGIN.0 + place * CELL.0 + 14, MARGIN.1 - 8), upright))?;
            for column in 0..labels.len() {
                let share = shares[[row, column]];
                let (x, y) = (MARGIN.0 + pixels(column) * CELL.0, MARGIN.1 + place * CELL.1);
                let colour = BARS[2].1.mix((share / highest).sqrt());
                area.draw(&Rectangle::new([(x, y), (x + CELL.0 - 1, y + CELL.1 - 1)], colour.filled()))?;
                if share >= 0.01 {
                    let ink = if share > highest * 0.3 { WHITE } else { BLACK };
                    let text = format!("{:.0}%", share * 100.0);
                    area.draw(&Text::new(text, (x + 8, y + 6), FONT.into_font().color(&ink)))?;
                }
            }
        }
        Ok(())
    })
}
