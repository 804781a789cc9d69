//! Charts: one drawing, as SVG and as pixels.

pub(crate) mod bars;
pub(crate) mod figures;
pub(crate) mod scatter;

use std::sync::Once;

use anyhow::Result;
use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::FontStyle;
use plotters::style::register_font;

use crate::pipeline::RgbImage;

/// The colours of Okabe and Ito, which differ without colour vision too, in the order of their distance.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(0, 0, 0),
];
/// Text and axes.
const INK: RGBColor = RGBColor(34, 34, 34);
/// Lines behind the data.
const FAINT: RGBColor = RGBColor(221, 221, 221);
/// Pixels of a unit of the drawing: twice as many as an SVG shows at its own size.
const DENSITY: i32 = 2;

type Area<'a, B> = DrawingArea<B, Shift>;
type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// A drawing that knows its size.
pub(crate) trait Figure {
    /// Width and height, in units.
    fn size(&self) -> [u32; 2];

    /// Draws it on an area that is `pen`'s units large.
    fn draw<B: DrawingBackend>(&self, area: &Area<'_, B>, pen: Pen) -> Drawn<B>
    where
        B::ErrorType: 'static;
}

/// How many pixels a unit has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pen(i32);

impl Pen {
    /// So many units.
    fn units(self, units: i32) -> i32 {
        self.0 * units
    }

    /// A line of so many units.
    fn line(self, colour: RGBColor, units: i32) -> ShapeStyle {
        colour.stroke_width(self.units(units).unsigned_abs())
    }

    /// A text of so many units.
    fn text(self, units: i32) -> TextStyle<'static> {
        text(self.units(units))
    }
}

/// The colour of the n-th of several things.
fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// A number on an axis, without the noise of adding tenths.
fn number(value: f64) -> String {
    format!("{}", (value * 1e4).round() / 1e4)
}

/// A text so many pixels high.
pub(super) fn text(pixels: i32) -> TextStyle<'static> {
    static FONT: Once = Once::new();
    // The SVG says sans-serif; its reader takes its own. Registering fails for broken fonts alone.
    FONT.call_once(|| {
        drop(register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular()))
    });
    ("sans-serif", pixels).into_font().color(&INK)
}

/// The text, cut until it is at most `width` pixels wide.
pub(super) fn fitted(text: &str, style: &TextStyle<'_>, width: u32) -> String {
    let fits = |text: &str| style.font.box_size(text).is_ok_and(|(measured, _)| measured <= width);
    if fits(text) {
        return text.to_owned();
    }
    let ends = text.char_indices().map(|(at, _)| at).rev();
    let mut cuts = ends.map(|at| format!("{}…", text[..at].trim_end()));
    cuts.find(|cut| fits(cut)).unwrap_or_default()
}

/// The figure as an SVG document.
///
/// # Errors
/// When it cannot be drawn.
pub(crate) fn svg(figure: &impl Figure) -> Result<String> {
    let [width, height] = figure.size();
    let mut document = String::new();
    {
        let area = SVGBackend::with_string(&mut document, (width, height)).into_drawing_area();
        paint(figure, &area, Pen(1))?;
    }
    Ok(document)
}

/// The figure as pixels, [`DENSITY`] a unit.
///
/// # Errors
/// When it cannot be drawn.
pub(crate) fn pixels(figure: &impl Figure) -> Result<RgbImage> {
    let [width, height] = figure.size().map(|units| units * DENSITY.unsigned_abs());
    on_pixels(width, height, |area| paint(figure, area, Pen(DENSITY)))
}

/// A picture that `draw` has drawn on.
///
/// # Errors
/// Those of `draw`.
pub(super) fn on_pixels(
    width: u32,
    height: u32,
    draw: impl FnOnce(&DrawingArea<BitMapBackend<'_>, Shift>) -> Result<()>,
) -> Result<RgbImage> {
    let [columns, rows] = [width, height].map(|pixels| pixels as usize);
    let mut data = vec![255; columns * rows * 3];
    {
        let backend = BitMapBackend::with_buffer(&mut data, (width, height));
        draw(&backend.into_drawing_area())?;
    }
    Ok(RgbImage { width: columns, height: rows, data })
}

fn paint<B: DrawingBackend>(figure: &impl Figure, area: &Area<'_, B>, pen: Pen) -> Result<()>
where
    B::ErrorType: 'static,
{
    let all = area.fill(&WHITE).and_then(|()| figure.draw(area, pen)).and_then(|()| area.present());
    all.map_err(|error| anyhow!("a chart could not be drawn: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_where_it_does_not_fit() {
        let style = text(20);
        assert_eq!(fitted("a fox", &style, 200), "a fox");
        let cut = fitted("a majestic lion on a rocky cliff", &style, 200);
        assert!(cut.starts_with("a majestic") && cut.ends_with('…'), "{cut}");
        assert!(style.font.box_size(&cut).unwrap().0 <= 200);
        assert_eq!(fitted("a fox", &style, 0), "");
        assert!(fitted("赤いりんごの写真", &style, 60).ends_with('…'));
    }
}
