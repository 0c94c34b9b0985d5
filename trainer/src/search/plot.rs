//! The plot of a search: validation loss by trial, by learning rate and by units.

use plotters::prelude::*;

use crate::search::trial::Trial;
use crate::svg::{self, Area, Failure};

const SIZE: (u32, u32) = (1080, 400);
const FONT: (&str, i32) = ("sans-serif", 14);
const TRIAL: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const WINNER: RGBColor = RGBColor(0xd6, 0x4a, 0x2b);
/// Losses above this multiple of the lowest are drawn at the top edge, so that they do not compress
/// the rest.
const HIGHEST: f64 = 1.5;

/// Draws all trials with a finite loss, as SVG.
pub(super) fn draw(trials: &[Trial], winner: usize) -> Result<String, Failure> {
    let losses: Vec<(&Trial, f64)> =
        trials.iter().filter_map(|trial| Some((trial, trial.validation_loss?))).collect();
    let least = losses.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
    let top =
        losses.iter().map(|(_, loss)| *loss).fold(least, f64::max).min(least * HIGHEST).max(least * 1.01);
    let range = (least - (top - least) * 0.05, top + (top - least) * 0.05);
    let points = |value: &dyn Fn(&Trial) -> f64| -> Vec<(f64, f64, bool)> {
        losses.iter().map(|(trial, loss)| (value(trial), loss.min(top), trial.trial == winner)).collect()
    };
    let setting = |trial: &Trial, name: &str| -> f64 {
        trial.settings.get(name).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
    };
    svg::draw(SIZE, |area| {
        let panels = area.split_evenly((1, 3));
        panel(&panels[0], "trial", &points(&|trial| trial.trial as f64), range)?;
        let rates = points(&|trial| setting(trial, "learning_rate").log10());
        panel(&panels[1], "log10 of the learning rate", &rates, range)?;
        panel(&panels[2], "units", &points(&|trial| setting(trial, "units")), range)?;
        Ok(())
    })
}

fn panel(
    area: &Area<'_>,
    name: &str,
    points: &[(f64, f64, bool)],
    (low, high): (f64, f64),
) -> Result<(), Failure> {
    let (first, last) = points
        .iter()
        .filter(|point| point.0.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), point| (a.min(point.0), b.max(point.0)));
    let margin = (last - first).max(1e-3) * 0.05;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(first - margin..last + margin, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(name)
        .y_desc("validation loss")
        .x_labels(6)
        .label_style(FONT)
        .draw()?;
    chart.draw_series(points.iter().filter(|point| point.0.is_finite()).map(|(x, y, is_winner)| {
        Circle::new(
            (*x, *y),
            if *is_winner { 6 } else { 3 },
            if *is_winner { WINNER } else { TRIAL }.filled(),
        )
    }))?;
    Ok(())
}
