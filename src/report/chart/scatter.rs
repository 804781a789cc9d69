//! Quality against time: a point a configuration, in one panel a measure.

use std::ops::Range;

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

const PANEL: u32 = 400;
const LEGEND: u32 = 250;
const HEIGHT: u32 = 380;
/// Of an entry of the legend.
const LINE: i32 = 22;

/// A configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) name: String,
    /// Its shape.
    pub(crate) mode: usize,
    /// Its colour.
    pub(crate) cache: usize,
    pub(crate) time: f64,
    /// A value a panel; none where it was not measured.
    pub(crate) values: Vec<Option<f64>>,
    /// Drawn with a ring.
    pub(crate) is_best: bool,
}

/// Panels side by side, and a legend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scatter {
    pub(crate) title: String,
    /// What the horizontal axes say.
    pub(crate) axis: String,
    /// What the vertical axes say.
    pub(crate) panels: Vec<String>,
    pub(crate) points: Vec<Point>,
    /// Where a line marks a time, and its name.
    pub(crate) mark: Option<(f64, String)>,
}

impl Figure for Scatter {
    fn size(&self) -> [u32; 2] {
        let panels = u32::try_from(self.panels.len()).unwrap_or(1);
        let entries = u32::try_from(self.points.len()).unwrap_or(1);
        [PANEL * panels + LEGEND, HEIGHT.max(110 + LINE.unsigned_abs() * entries)]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<'_, B>, pen: Pen) -> Drawn<B>
    where
        B::ErrorType: 'static,
    {
        let area = area.margin(pen.units(10), 0, 0, 0).titled(&self.title, pen.text(17))?;
        let [panel, legend] = [PANEL, LEGEND].map(|units| pen.units(units.cast_signed()));
        let panels = i32::try_from(self.panels.len()).unwrap_or(1);
        let (left, right) = area.split_horizontally(panel * panels);
        for (index, part) in left.split_evenly((1, self.panels.len())).iter().enumerate() {
            self.panel(index, part, pen)?;
        }
        self.legend(&right, legend, pen)
    }
}

impl Scatter {
    fn panel<B: DrawingBackend>(&self, index: usize, area: &Area<'_, B>, pen: Pen) -> Drawn<B>
    where
        B::ErrorType: 'static,
    {
        let points: Vec<(&Point, f64)> = self
            .points
            .iter()
            .filter_map(|point| Some((point, point.values.get(index).copied().flatten()?)))
            .collect();
        let mark = self.mark.iter().map(|(time, _)| *time);
        let times = around(points.iter().map(|(point, _)| point.time).chain(mark));
        let values = around(points.iter().map(|(_, value)| *value));
        let mut chart = ChartBuilder::on(area)
            .margin(pen.units(10))
            .set_label_area_size(LabelAreaPosition::Left, pen.units(54))
            .set_label_area_size(LabelAreaPosition::Bottom, pen.units(44))
            .build_cartesian_2d(times, values.clone())?;
        chart
            .configure_mesh()
            .x_desc(&self.axis)
            .y_desc(&self.panels[index])
            .x_labels(6)
            .y_labels(7)
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .label_style(pen.text(12))
            .axis_desc_style(pen.text(13))
            .axis_style(pen.line(INK, 1))
            .bold_line_style(pen.line(FAINT, 1))
            .light_line_style(TRANSPARENT)
            .draw()?;
        let plot = chart.plotting_area();
        if let Some((time, _)) = &self.mark {
            let line = [(*time, values.start), (*time, values.end)];
            let (dash, gap) = (pen.units(5), pen.units(4));
            plot.draw(&DashedPathElement::new(line, dash, gap, pen.line(INK, 1)))?;
        }
        for (point, value) in points {
            marker(point, (point.time, value), plot, pen)?;
        }
        Ok(())
    }

    fn legend<B: DrawingBackend>(&self, area: &Area<'_, B>, width: i32, pen: Pen) -> Drawn<B>
    where
        B::ErrorType: 'static,
    {
        let style = pen.text(13).pos(Pos::new(HPos::Left, VPos::Center));
        let room = (width - pen.units(40)).unsigned_abs();
        let at = |row: usize| pen.units(24 + LINE * i32::try_from(row).unwrap_or(0));
        let write = |row: usize, text: &str| {
            let text = fitted(text, &style, room);
            area.draw(&Text::new(text, (pen.units(34), at(row)), style.clone()))
        };
        for (row, point) in self.points.iter().enumerate() {
            marker(point, (pen.units(16), at(row)), area, pen)?;
            write(row, &point.name)?;
        }
        let mut row = self.points.len();
        if let Some((_, name)) = &self.mark {
            let line =
                [(pen.units(16), at(row) - pen.units(9)), (pen.units(16), at(row) + pen.units(9))];
            let (dash, gap) = (pen.units(5), pen.units(4));
            area.draw(&DashedPathElement::new(line, dash, gap, pen.line(INK, 1)))?;
            write(row, name)?;
            row += 1;
        }
        if self.points.iter().any(|point| point.is_best) {
            area.draw(&Circle::new((pen.units(16), at(row)), pen.units(9), pen.line(INK, 1)))?;
            write(row, "recommended")?;
        }
        Ok(())
    }
}

/// A point's shape and colour, with a ring around the best.
fn marker<B: DrawingBackend, C: CoordTranslate>(
    point: &Point,
    at: C::From,
    area: &DrawingArea<B, C>,
    pen: Pen,
) -> Drawn<B>
where
    C::From: Clone + 'static,
    B::ErrorType: 'static,
{
    let fill = colour(point.cache).filled();
    let size = pen.units(5);
    let square = [(-size, -size), (size, size)];
    let diamond = vec![(0, -size - 1), (size + 1, 0), (0, size + 1), (-size - 1, 0)];
    match point.mode % 5 {
        0 => area.draw(&(EmptyElement::at(at.clone()) + Circle::new((0, 0), size, fill)))?,
        1 => area
            .draw(&(EmptyElement::at(at.clone()) + TriangleMarker::new((0, 0), size + 1, fill)))?,
        2 => area.draw(&(EmptyElement::at(at.clone()) + Rectangle::new(square, fill)))?,
        3 => area.draw(&(EmptyElement::at(at.clone()) + Polygon::new(diamond, fill)))?,
        _ => {
            let stroke = pen.line(colour(point.cache), 2);
            area.draw(&(EmptyElement::at(at.clone()) + Cross::new((0, 0), size, stroke)))?;
        }
    }
    if point.is_best {
        let ring = Circle::new((0, 0), pen.units(9), pen.line(INK, 1));
        area.draw(&(EmptyElement::at(at) + ring))?;
    }
    Ok(())
}

/// A range that holds all values with some air.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
            (least.min(value), most.max(value))
        });
    if least > most {
        return 0.0..1.0;
    }
    let air = if most > least { 0.08 * (most - least) } else { 0.08 * least.abs().max(1.0) };
    least - air..most + air
}
