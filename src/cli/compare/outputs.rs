//! What is made of a comparison at its end: charts, grids of pictures, and the report.

use anyhow::Result;

use crate::cli::compare::folder::Folder;
use crate::cli::compare::matrix;
use crate::cli::interrupt;
use crate::error::Error;
use crate::files;
use crate::pipeline::image;
use crate::report::chart;
use crate::report::chart::Figure;
use crate::report::chart::figures;
use crate::report::grid;
use crate::report::grid::Cell;
use crate::report::grid::Grid;
use crate::report::grid::Row;
use crate::report::page::Drawing;
use crate::report::page::page;
use crate::report::results::Compared;
use crate::report::results::Results;
use crate::report::tables;

/// The report's file.
pub(super) const REPORT: &str = "report.html";
/// Most pixels of a side of a picture in the grid of all.
const SMALL: usize = 256;
/// Most prompts in the grid of all: more would make a picture that nothing opens.
const MOST_ROWS: usize = 40;
/// Most bytes of pictures inside the report.
const MOST_EMBEDDED: usize = 64 << 20;

/// Writes all of them.
///
/// # Errors
/// [`Error::Write`], [`Error::Cancelled`]; damaged pictures are left out.
pub(super) fn write(folder: &Folder, results: &Results) -> Result<()> {
    let mut charts = Vec::new();
    let time = figures::time(results);
    charts.push(chart(folder, "time", time.title.clone(), &time)?);
    let speedup = figures::speedup(results);
    charts.push(chart(folder, "speedup", speedup.title.clone(), &speedup)?);
    let quality = figures::quality(results);
    if !quality.points.is_empty() {
        charts.push(chart(folder, "quality", quality.title.clone(), &quality)?);
    }
    grids(folder, results)?;
    let read = |file: &str| files::map(&folder.path().join(file)).ok().map(|bytes| bytes.to_vec());
    let report = page(results, &charts, MOST_EMBEDDED, read)?;
    folder.write(REPORT, report.as_bytes())?;
    Ok(())
}

/// A chart as `charts/NAME.svg` and `.png`.
fn chart(folder: &Folder, name: &str, title: String, figure: &impl Figure) -> Result<Drawing> {
    let svg = chart::svg(figure)?;
    folder.write(&format!("charts/{name}.svg"), svg.as_bytes())?;
    let png = image::encode_png(&chart::pixels(figure)?, &[])?;
    folder.write(&format!("charts/{name}.png"), &png)?;
    Ok(Drawing { title, svg })
}

/// A grid a mode and prompt, and one of all.
fn grids(folder: &Folder, results: &Results) -> Result<()> {
    let setup = &results.setup;
    let size = [setup.width, setup.height];
    let [large, small] = [grid::whole_cell(size), grid::small_cell(size, SMALL)];
    let drawn: Vec<&Compared> =
        results.configurations.iter().filter(|of| !of.pictures.is_empty()).collect();
    let mut modes: Vec<&str> = Vec::new();
    for compared in &drawn {
        if !modes.contains(&compared.mode.as_str()) {
            modes.push(&compared.mode);
        }
    }
    let mut index = Vec::new();
    for (prompt, text) in setup.prompts.iter().enumerate() {
        let mut all = Vec::new();
        for mode in &modes {
            if interrupt::asked() {
                return Err(Error::Cancelled.into());
            }
            let mut cells = Vec::new();
            for compared in drawn.iter().filter(|of| of.mode == *mode) {
                let read = compared.picture(prompt).and_then(|picture| folder.picture(picture));
                let read = read.filter(|read| [read.width, read.height] == size);
                let scaled = |size| read.as_ref().map(|read| grid::resized(read, size)).transpose();
                let title = compared.picture(prompt).map_or_else(
                    || vec!["not made".to_owned()],
                    |picture| tables::title(results, compared, picture),
                );
                if prompt < MOST_ROWS {
                    let title = [vec![compared.name.clone()], title.clone()].concat();
                    all.push(Cell { title, picture: scaled(small)? });
                }
                let title = [vec![format!("cache {}", compared.cache)], title].concat();
                cells.push(Cell { title, picture: scaled(large)? });
            }
            let grid = Grid {
                title: format!("mode {mode}: {text}"),
                columns: cells.len(),
                rows: vec![Row { title: String::new(), cells }],
            };
            let png = image::encode_png(&grid.draw(large)?, &[])?;
            folder.write(&matrix::grid(mode, prompt, text), &png)?;
        }
        if prompt < MOST_ROWS {
            index.push(Row { title: text.clone(), cells: all });
        }
    }
    let (shown, all) = (index.len(), setup.prompts.len());
    let part = if shown < all { format!(", {shown} of {all} prompts") } else { String::new() };
    let title = format!("{}, {}{part}", tables::headline(results), tables::setup(results));
    let grid = Grid { title, columns: drawn.len(), rows: index };
    folder.write("grids/index.png", &image::encode_png(&grid.draw(small)?, &[])?)?;
    Ok(())
}
