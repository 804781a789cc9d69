//! Horizontal bars with their names and numbers.

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use plotters::style::text_anchor::Pos;
use plotters::style::text_anchor::VPos;

use crate::report::chart::Area;
use crate::report::chart::Drawn;
use crate::report::chart::FAINT;
use crate::report::chart::Figure;
use crate::report::chart::INK;
use crate::report::chart::Pen;
use crate::report::chart::colour;
use crate::report::chart::fitted;
use crate::report::chart::number;

const WIDTH: u32 = 760;
const ROW: u32 = 30;
/// Of the title, and of the axis.
const ABOVE_AND_BELOW: u32 = 90;
const NAMES: u32 = 190;

/// A bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Its length; none if there is nothing to show but the label.
    pub(crate) value: Option<f64>,
    /// The smallest and the largest of what `value` is the mean of.
    pub(crate) range: Option<[f64; 2]>,
    /// Written behind it.
    pub(crate) label: String,
    /// Bars of one group have one colour.
    pub(crate) group: usize,
}

/// Bars from the top down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bars {
    pub(crate) title: String,
    /// What the axis says.
    pub(crate) axis: String,
    pub(crate) bars: Vec<Bar>,
    /// Where a line marks a value to compare with.
    pub(crate) mark: Option<f64>,
}

impl Figure for Bars {
    fn size(&self) -> [u32; 2] {
        [
            WIDTH,
            ABOVE_AND_BELOW + ROW * u32::try_from(self.bars.len().max(1)).unwrap_or(u32::MAX / ROW),
        ]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<'_, B>, pen: Pen) -> Drawn<B>
    where
        B::ErrorType: 'static,
    {
        let ends = self
            .bars
            .iter()
            .flat_map(|bar| bar.value.into_iter().chain(bar.range.map(|[_, end]| end)));
        let longest = ends.chain(self.mark).fold(0.0, f64::max);
        let longest = if longest > 0.0 { longest } else { 1.0 };
        // Labels stand behind the bars.
        let end = 1.25 * longest;
        let rows = self.bars.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .margin(pen.units(10))
            .margin_right(pen.units(24))
            .caption(&self.title, pen.text(17))
            .set_label_area_size(LabelAreaPosition::Left, pen.units(NAMES.cast_signed()))
            .set_label_area_size(LabelAreaPosition::Bottom, pen.units(40))
            .build_cartesian_2d(0.0..end, rows..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_desc(&self.axis)
            .x_labels(8)
            .x_label_formatter(&|value| number(*value))
            .x_label_style(pen.text(12))
            .axis_desc_style(pen.text(13))
            .axis_style(pen.line(FAINT, 1))
            .bold_line_style(pen.line(FAINT, 1))
            .light_line_style(TRANSPARENT)
            .draw()?;
        let plot = chart.plotting_area();
        if let Some(mark) = self.mark {
            let (dash, gap) = (pen.units(5), pen.units(4));
            let line = [(mark, 0.0), (mark, rows)];
            plot.draw(&DashedPathElement::new(line, dash, gap, pen.line(INK, 1)))?;
        }
        for (row, bar) in self.bars.iter().enumerate() {
            let top = row as f64;
            let value = bar.value.unwrap_or(0.0);
            let fill = colour(bar.group).filled();
            plot.draw(&Rectangle::new([(0.0, top + 0.2), (value, top + 0.8)], fill))?;
            let mut behind = value;
            if let Some([least, most]) = bar.range.filter(|[least, most]| least < most) {
                let line = [(least, top + 0.5), (most, top + 0.5)];
                plot.draw(&PathElement::new(line, pen.line(INK, 1)))?;
                for end in [least, most] {
                    let line = [(end, top + 0.38), (end, top + 0.62)];
                    plot.draw(&PathElement::new(line, pen.line(INK, 1)))?;
                }
                behind = behind.max(most);
            }
            let at = |horizontal| Pos::new(horizontal, VPos::Center);
            let beside = |position: HPos, shift: i32, text: String| {
                let style = pen.text(13).pos(at(position));
                let anchor = if shift < 0 { 0.0 } else { behind };
                EmptyElement::at((anchor, top + 0.5))
                    + Text::new(text, (pen.units(shift), 0), style)
            };
            let room = pen.units(NAMES.cast_signed() - 16).unsigned_abs();
            plot.draw(&beside(HPos::Right, -8, fitted(&bar.name, &pen.text(13), room)))?;
            plot.draw(&beside(HPos::Left, 8, bar.label.clone()))?;
        }
        Ok(())
    }
}
