//! Plots as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;

pub(crate) type Failure = Box<dyn std::error::Error>;
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws on a white area of `size` pixels, and returns the SVG.
pub(crate) fn draw(
    size: (u32, u32),
    content: impl FnOnce(&Area<'_>) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        content(&area)?;
        area.present()?;
    }
    Ok(svg)
}
