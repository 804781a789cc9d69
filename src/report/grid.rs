//! Grids of pictures with titles, as one picture.

use anyhow::Result;
use anyhow::anyhow;
use plotters::prelude::*;
use resize::Pixel;
use resize::Type;
use resize::px::RGB;

use crate::pipeline::RgbImage;
use crate::report::chart;

/// Cells are at least as wide, so that their titles can be read: smaller pictures are enlarged.
const NARROWEST: usize = 320;
/// Around and between cells.
const GAP: usize = 12;
/// Where a picture is missing, and around every picture.
const GREY: [u8; 3] = [224; 3];

/// Pictures in rows, all of one size.
#[derive(Debug)]
pub(crate) struct Grid {
    /// Above all.
    pub(crate) title: String,
    /// Columns of every row.
    pub(crate) columns: usize,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug)]
pub(crate) struct Row {
    /// Above its cells; empty for none.
    pub(crate) title: String,
    pub(crate) cells: Vec<Cell>,
}

#[derive(Debug)]
pub(crate) struct Cell {
    /// Above the picture, a line each.
    pub(crate) title: Vec<String>,
    /// A grey field where there is none.
    pub(crate) picture: Option<RgbImage>,
}

/// Where things are, in pixels.
struct Layout {
    cell: [usize; 2],
    /// Height of a line of text.
    line: usize,
    /// Lines of the largest cell title.
    lines: usize,
    has_row_titles: bool,
    columns: usize,
}

/// What is written where.
struct Words {
    at: [usize; 2],
    width: usize,
    text: String,
    is_heading: bool,
}

impl Grid {
    /// Draws it. `cell` is the size of a picture in the grid; a picture of another size is left out.
    ///
    /// # Errors
    /// When text cannot be drawn.
    pub(crate) fn draw(&self, cell: [usize; 2]) -> Result<RgbImage> {
        let lines = self.rows.iter().flat_map(|row| &row.cells).map(|cell| cell.title.len());
        let layout = Layout {
            cell,
            line: (cell[0] / 18).clamp(18, 34),
            lines: lines.max().unwrap_or(0),
            has_row_titles: self.rows.iter().any(|row| !row.title.is_empty()),
            columns: self.columns,
        };
        let [width, height] = layout.size(self.rows.len());
        let words = self.words(&layout, width);
        let [width, height] = [u32::try_from(width)?, u32::try_from(height)?];
        let mut canvas = chart::on_pixels(width, height, |area| {
            for Words { at: [left, top], width, text, is_heading } in words {
                let size = layout.line * if is_heading { 9 } else { 8 } / 10;
                let style = chart::text(i32::try_from(size)?);
                let text = chart::fitted(&text, &style, u32::try_from(width)?);
                let at = (i32::try_from(left)?, i32::try_from(top)?);
                let drawn = area.draw(&Text::new(text, at, style));
                drawn.map_err(|error| anyhow!("a grid could not be drawn: {error}"))?;
            }
            Ok(())
        })?;
        for (row, Row { cells, .. }) in self.rows.iter().enumerate() {
            for (column, Cell { picture, .. }) in cells.iter().enumerate() {
                let [left, top] = layout.picture(row, column);
                put(&mut canvas, [left, top], cell, picture.as_ref());
            }
        }
        Ok(canvas)
    }

    fn words(&self, layout: &Layout, width: usize) -> Vec<Words> {
        let whole = width - 2 * GAP;
        let title =
            Words { at: [GAP; 2], width: whole, text: self.title.clone(), is_heading: true };
        let mut words = vec![title];
        for (row, Row { title, cells }) in self.rows.iter().enumerate() {
            let (at, text) = ([GAP, layout.row(row)], title.clone());
            words.push(Words { at, width: whole, text, is_heading: true });
            for (column, Cell { title, .. }) in cells.iter().enumerate() {
                let [left, top] = layout.picture(row, column);
                let first = top - title.len() * layout.line - GAP / 3;
                for (line, text) in title.iter().enumerate() {
                    let at = [left, first + line * layout.line];
                    let text = text.clone();
                    words.push(Words { at, width: layout.cell[0], text, is_heading: false });
                }
            }
        }
        words
    }
}

impl Layout {
    fn row_height(&self) -> usize {
        let title = if self.has_row_titles { self.line + GAP / 2 } else { 0 };
        title + self.lines * self.line + self.cell[1] + GAP
    }

    /// The top of a row.
    fn row(&self, row: usize) -> usize {
        2 * GAP + self.line + row * self.row_height()
    }

    /// The corner of a picture.
    fn picture(&self, row: usize, column: usize) -> [usize; 2] {
        let bottom = self.row(row) + self.row_height() - GAP;
        [GAP + column * (self.cell[0] + GAP), bottom - self.cell[1]]
    }

    fn size(&self, rows: usize) -> [usize; 2] {
        [GAP + self.columns.max(1) * (self.cell[0] + GAP), self.row(rows)]
    }
}

/// Copies a picture of the cell's size, or grey, into a grey frame.
fn put(
    canvas: &mut RgbImage,
    [left, top]: [usize; 2],
    cell: [usize; 2],
    picture: Option<&RgbImage>,
) {
    let picture = picture.filter(|picture| [picture.width, picture.height] == cell);
    let width = canvas.width;
    let mut line = |row: usize, from: usize, columns: usize| {
        canvas.data[(row * width + from) * 3..][..columns * 3].as_chunks_mut().0.fill(GREY);
    };
    for row in top - 1..=top + cell[1] {
        line(row, left - 1, cell[0] + 2);
    }
    let Some(picture) = picture else { return };
    for (row, pixels) in picture.data.chunks_exact(3 * cell[0]).enumerate() {
        let start = ((top + row) * width + left) * 3;
        canvas.data[start..][..pixels.len()].copy_from_slice(pixels);
    }
}

/// The size of a cell that shows pictures of `size` pixel by pixel, or each pixel several times.
pub(crate) fn whole_cell(size: [usize; 2]) -> [usize; 2] {
    let factor = NARROWEST.div_ceil(size[0].max(1));
    size.map(|pixels| pixels * factor)
}

/// The size of a cell with at most `most` pixels a side for pictures of `size`.
pub(crate) fn small_cell(size: [usize; 2], most: usize) -> [usize; 2] {
    let longest = size[0].max(size[1]).max(1);
    if longest <= most {
        return size.map(|pixels| pixels * (most / longest));
    }
    size.map(|pixels| (pixels * most / longest).max(1))
}

/// The picture in another size: whole multiples repeat pixels, smaller ones are filtered.
///
/// # Errors
/// When it is empty.
pub(crate) fn resized(picture: &RgbImage, size: [usize; 2]) -> Result<RgbImage> {
    let RgbImage { width, height, data } = picture;
    let [columns, rows] = size;
    if size == [*width, *height] {
        return Ok(picture.clone());
    }
    if columns >= *width {
        let [across, down] = [columns / width, rows / height];
        let pixel = |row: usize, column: usize| {
            let at = ((row / down).min(height - 1) * width + (column / across).min(width - 1)) * 3;
            [data[at], data[at + 1], data[at + 2]]
        };
        let pixels = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let data = pixels.flat_map(|(row, column)| pixel(row, column)).collect();
        return Ok(RgbImage { width: columns, height: rows, data });
    }
    let source: Vec<RGB<u8>> =
        data.as_chunks().0.iter().map(|&[r, g, b]| RGB::new(r, g, b)).collect();
    let mut scaled = vec![RGB::new(0, 0, 0); columns * rows];
    let mut resizer = resize::new(*width, *height, columns, rows, Pixel::RGB8, Type::Lanczos3)?;
    resizer.resize(&source, &mut scaled)?;
    let data = scaled.into_iter().flat_map(|pixel| [pixel.r, pixel.g, pixel.b]).collect();
    Ok(RgbImage { width: columns, height: rows, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> RgbImage {
        let byte = |at: usize| u8::try_from(at * 37 % 251).unwrap();
        RgbImage { width, height, data: (0..width * height * 3).map(byte).collect() }
    }

    #[test]
    fn pictures_lie_in_it_pixel_by_pixel() {
        let first = picture(320, 40);
        let cell = |picture: Option<RgbImage>| Cell { title: vec!["none".into(); 2], picture };
        let grid = Grid {
            title: "XL".into(),
            columns: 2,
            rows: vec![Row {
                title: String::new(),
                cells: vec![cell(Some(first.clone())), cell(None)],
            }],
        };
        let drawn = grid.draw([320, 40]).unwrap();
        assert_eq!(drawn.width, 3 * GAP + 2 * 320);
        let start = drawn.height - GAP - 40;
        for row in 0..40 {
            let line = &drawn.data[((start + row) * drawn.width + GAP) * 3..][..960];
            assert_eq!(line, &first.data[row * 960..][..960], "row {row}");
            let beside = &drawn.data[((start + row) * drawn.width + 2 * GAP + 320) * 3..][..960];
            assert!(beside.iter().all(|&value| value == GREY[0]));
        }
        // Titles are above: something dark is written there.
        assert!(drawn.data[..start * drawn.width * 3].iter().any(|&value| value < 100));
    }

    #[test]
    fn sizes_are_whole_multiples_or_smaller() {
        assert_eq!(whole_cell([128, 128]), [384, 384]);
        assert_eq!(whole_cell([1024, 768]), [1024, 768]);
        assert_eq!(small_cell([128, 128], 256), [256, 256]);
        assert_eq!(small_cell([1024, 512], 256), [256, 128]);
        assert_eq!(small_cell([48, 32], 256), [240, 160]);
        let small = picture(4, 2);
        let large = resized(&small, [8, 4]).unwrap();
        for (row, column) in [(0, 0), (3, 7), (1, 2)] {
            let [from, to] = [(row / 2 * 4 + column / 2) * 3, (row * 8 + column) * 3];
            assert_eq!(small.data[from..from + 3], large.data[to..to + 3]);
        }
        let even = RgbImage { width: 64, height: 64, data: vec![77; 64 * 64 * 3] };
        let shrunk = resized(&even, [16, 16]).unwrap();
        assert!(shrunk.data.len() == 768 && shrunk.data.iter().all(|&value| value == 77));
    }
}
