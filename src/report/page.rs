//! The report: one HTML file that opens without a network, with tables, charts, and the pictures one over
//! the other.

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;
use serde_json::json;

use crate::report::results::Compared;
use crate::report::results::Results;
use crate::report::tables;

const TEMPLATE: &str = include_str!("page/report.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// Most letters of a prompt as a heading; the table of all pictures has it whole.
const LONGEST: usize = 200;

/// A chart in the page.
#[derive(Debug, Serialize)]
pub(crate) struct Drawing {
    pub(crate) title: String,
    pub(crate) svg: String,
}

#[derive(Debug, Serialize)]
struct Prompt<'r> {
    index: usize,
    text: String,
    seed: u64,
    pictures: Vec<Shown<'r>>,
}

#[derive(Debug, Serialize)]
struct Shown<'r> {
    name: &'r str,
    source: String,
    lines: Vec<String>,
}

/// A prompt as a heading.
fn heading(prompt: &str) -> String {
    match prompt.char_indices().nth(LONGEST) {
        _ if prompt.trim().is_empty() => "(no prompt)".to_owned(),
        Some((end, _)) => format!("{}…", &prompt[..end]),
        None => prompt.to_owned(),
    }
}

/// The document. `read` gives the bytes of a picture's file, none if it is not there; of those, `most` bytes
/// become part of the page, and it reads the rest from the folder.
///
/// # Errors
/// When the template does not fit, a fault of the program.
pub(crate) fn page(
    results: &Results,
    charts: &[Drawing],
    most: usize,
    mut read: impl FnMut(&str) -> Option<Vec<u8>>,
) -> Result<String> {
    let setup = &results.setup;
    let mut embedded = 0;
    let mut linked = false;
    let mut source = |file: &str| {
        let bytes = read(file)?;
        if embedded + bytes.len() > most {
            linked = true;
            return Some(file.to_owned());
        }
        embedded += bytes.len();
        Some(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes)))
    };
    let mut prompts = Vec::new();
    for (index, text) in setup.prompts.iter().enumerate() {
        let mut pictures = Vec::new();
        for compared in &results.configurations {
            let Some(picture) = compared.picture(index) else { continue };
            let Some(source) = source(&picture.file) else { continue };
            let lines = tables::title(results, compared, picture);
            pictures.push(Shown { name: &compared.name, source, lines });
        }
        if !pictures.is_empty() {
            let seed = setup.seed.wrapping_add(index as u64);
            prompts.push(Prompt { index, text: heading(text), seed, pictures });
        }
    }
    let failed = |compared: &Compared| {
        compared.error.as_ref().map(|error| format!("{} failed: {error}", compared.name))
    };
    let configurations = || results.configurations.iter();
    let context = json!({
        "title": tables::headline(results),
        "setup": tables::setup(results),
        "status": results.status,
        "notes": results.notes,
        "reference": results.reference,
        "floors": results.floors.iter().map(tables::found).collect::<Vec<_>>(),
        "recommendation": results.recommendation,
        "headings": tables::HEADINGS,
        "rows": configurations().map(|of| tables::cells(results, of).to_vec()).collect::<Vec<_>>(),
        "failures": configurations().filter_map(failed).collect::<Vec<_>>(),
        "charts": charts,
        "linked": linked,
        "prompts": prompts,
        "width": setup.width,
        "height": setup.height,
        "columns": tables::COLUMNS.as_slice(),
        "table": tables::rows(results).map(|row| row.to_vec()).collect::<Vec<_>>(),
        "program": format!("{} {}", results.program, results.version),
        "style": STYLE,
        "script": SCRIPT,
    });
    // The name's ending says that values are escaped for HTML.
    Ok(Environment::new().render_named_str("report.html", TEMPLATE, Serde(context))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::Picture;
    use crate::report::results::blank;
    use crate::report::results::blank_picture;

    fn picture(prompt: usize) -> Picture {
        Picture { file: format!("pictures/xl-none-{prompt}.png"), ..blank_picture(prompt) }
    }

    #[test]
    fn what_is_too_large_is_linked_and_what_is_missing_is_left_out() {
        let mut results = blank();
        results.setup.prompts =
            ["a fox", "a <b>house</b>", "a lost one"].map(String::from).to_vec();
        let mut compared = Compared::new("XL", "none");
        compared.pictures = (0..3).map(picture).collect();
        results.configurations.push(compared);
        let charts = [Drawing { title: "Time \"of\" all".into(), svg: "<svg></svg>".into() }];
        let read = |file: &str| (!file.ends_with("2.png")).then(|| vec![0; 60]);
        let document = page(&results, &charts, 100, read).unwrap();
        for part in [
            "src=\"data:image/png;base64,AAAA",
            "src=\"pictures/xl-none-1.png\"",
            "img-src data: 'self' file:;",
            "would be too large",
            "a &lt;b&gt;house",
            "Time &quot;of&quot; all",
            "<svg></svg>",
        ] {
            assert!(document.contains(part), "no {part} in {document}");
        }
        assert_eq!(document.matches("<h3>").count(), 2);
        let document = page(&results, &charts, 200, read).unwrap();
        assert!(document.contains("img-src data:;") && !document.contains("would be too large"));
    }
}
