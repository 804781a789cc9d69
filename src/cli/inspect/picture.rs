//! The settings in a PNG of this program, and what can be said about other PNGs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::cli::inspect::Report;
use crate::cli::inspect::SCHEMA_VERSION;
use crate::cli::stream::printable;
use crate::error::Error;
use crate::pipeline::Metadata;
use crate::pipeline::image;
use crate::pipeline::metadata;

const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

/// Whether a file begins as every PNG does.
pub(super) fn is_png(file: &[u8]) -> bool {
    file.starts_with(SIGNATURE)
}

/// Reads the settings out of a picture.
///
/// # Errors
/// [`Error::Format`] for a damaged PNG, [`Error::Config`] for metadata of another version.
pub(super) fn report(path: &Path, file: &[u8]) -> Result<Report> {
    let (size, texts) = match image::decode_png(file, path) {
        Ok((picture, texts)) => ((picture.width, picture.height), texts),
        // A PNG that this program would not have written, with alpha or a palette.
        Err(Error::Format { .. }) if foreign_size(file).is_some() => {
            (foreign_size(file).unwrap_or_default(), Vec::new())
        }
        Err(error) => return Err(error.into()),
    };
    let ours = texts.iter().find(|(keyword, _)| keyword == metadata::JSON_KEYWORD);
    let ours = ours.map(|(_, json)| Metadata::from_json(json, path)).transpose()?;
    let settings = ours.map_or(Ok(Value::Null), serde_json::to_value)?;
    let json = json!({
        "schema_version": SCHEMA_VERSION,
        "kind": "picture",
        "path": path.to_string_lossy(),
        "width": size.0,
        "height": size.1,
        "settings": settings,
        "texts": texts.iter().map(|(keyword, text)| [keyword, text]).collect::<Vec<_>>(),
    });
    Ok(Report { text: in_words(path, size, &settings, &texts), json })
}

fn in_words(
    path: &Path,
    (width, height): (usize, usize),
    settings: &Value,
    texts: &[(String, String)],
) -> String {
    let mut text = format!("{}: a PNG of {width} x {height} pixels", path.display());
    if let Value::Object(fields) = settings {
        text.push_str(" made by flux-rt\n");
        for (field, value) in fields {
            let _ = match value {
                Value::String(value) => writeln!(text, "  {field:<20} {}", printable(value)),
                Value::Object(record) if field == "cache_record" => cache_in_words(record)
                    .try_for_each(|(name, value)| {
                        writeln!(text, "  cache {name:<14} {}", printable(&value))
                    }),
                Value::Object(_) if field == "plan" => writeln!(text, "  {field:<20} {value}"),
                Value::Object(files) => files.iter().try_for_each(|(file, digest)| {
                    let digest = digest.as_str().unwrap_or_default();
                    writeln!(text, "  {:<20} {} sha256 {digest}", "weights", printable(file))
                }),
                Value::Null => writeln!(text, "  {field:<20} none"),
                other => writeln!(text, "  {field:<20} {other}"),
            };
        }
        return text;
    }
    text.push_str(", not made by flux-rt: it holds no settings of this program\n");
    for (keyword, content) in texts {
        let start: String = content.chars().take(200).collect();
        let _ = writeln!(text, "  {:<20} {}", printable(keyword), printable(&start));
    }
    text
}

/// Options and decisions of a cache, a line each.
fn cache_in_words(
    record: &serde_json::Map<String, Value>,
) -> impl Iterator<Item = (String, String)> + '_ {
    record.iter().flat_map(|(name, value)| match value {
        Value::Object(lists) if name == "lists" => lists
            .iter()
            .map(|(list, decided)| {
                let steps = format!("cached_steps {}", decided["cached_steps"]);
                (list.clone(), format!("{steps}, residual_diffs {}", decided["residual_diffs"]))
            })
            .collect(),
        Value::String(value) => vec![(name.clone(), value.clone())],
        other => vec![(format!("{name} options"), other.to_string())],
    })
}

/// Width and height of a PNG whose pixels are in a form that this program does not write: neither
/// 8-bit nor RGB. None if the header is broken.
fn foreign_size(file: &[u8]) -> Option<(usize, usize)> {
    let header = file.get(8..29)?;
    let number = |at: usize| -> Option<usize> {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    let is_header = header.get(4..8)? == b"IHDR";
    let [depth, color] = [header.get(16)?, header.get(17)?];
    let other_form = (*depth, *color) != (8, 2);
    (is_header && other_form).then_some((number(8)?, number(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::RgbImage;

    fn png(texts: &[(&str, &str)]) -> Vec<u8> {
        let image = RgbImage { width: 2, height: 1, data: vec![0; 6] };
        image::encode_png(&image, texts).unwrap()
    }

    #[test]
    fn a_foreign_png_is_called_so_and_its_texts_are_harmless() {
        let report = report(Path::new("a.png"), &png(&[("Title", "x\x1b[2Jy")])).unwrap();
        assert!(report.text.contains("2 x 1 pixels, not made by flux-rt"), "{}", report.text);
        assert!(report.text.contains(r"x\u{1b}[2Jy"), "{}", report.text);
        assert_eq!(report.json["settings"], Value::Null);
    }

    #[test]
    fn pngs_of_other_forms_tell_their_size() {
        let mut file = png(&[]);
        file[25] = 6; // RGBA: the checksum no longer fits, the pixels do not either.
        let report = report(Path::new("a.png"), &file).unwrap();
        assert!(report.text.contains("2 x 1 pixels, not made by flux-rt"), "{}", report.text);
    }

    #[test]
    fn damage_is_told() {
        let mut file = png(&[]);
        file.truncate(40);
        let error = report(Path::new("a.png"), &file).err().unwrap();
        assert!(error.to_string().contains("a.png"), "{error:#}");
    }
}
