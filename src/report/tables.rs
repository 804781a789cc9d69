//! The results as tables: Markdown for people, CSV for programs.

use std::fmt::Write as _;

use crate::report::recommendation::Recommendation;
use crate::report::results::Compared;
use crate::report::results::Floor;
use crate::report::results::Hits;
use crate::report::results::Picture;
use crate::report::results::Quality;
use crate::report::results::Results;

/// The columns of `results.csv`, a line a picture.
pub(crate) const COLUMNS: [&str; 22] = [
    "mode",
    "cache",
    "prompt_index",
    "prompt",
    "seed",
    "file",
    "width",
    "height",
    "steps",
    "encode_ms",
    "prepare_ms",
    "denoise_ms",
    "decode_ms",
    "total_ms",
    "hits_per_compared",
    "hits_per_step",
    "tutorial_rate",
    "psnr",
    "ssim",
    "ssimulacra2",
    "latents_error",
    "peak_memory_bytes",
];

/// The headings of the table of means.
pub(crate) const HEADINGS: [&str; 11] = [
    "mode",
    "cache",
    "time",
    "speedup",
    "hits by compared",
    "hits by steps",
    "PSNR",
    "SSIM",
    "SSIMULACRA 2",
    "latents off by",
    "memory",
];

/// A line a picture, RFC 4180; empty where there is nothing.
pub(crate) fn csv(results: &Results) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for row in rows(results) {
        text += &row.map(|field| quoted(&field)).join(",");
        text += "\r\n";
    }
    text
}

/// The fields of every picture, as [`COLUMNS`] names them.
pub(crate) fn rows(results: &Results) -> impl Iterator<Item = [String; 22]> {
    results.configurations.iter().flat_map(move |compared| {
        compared.pictures.iter().map(move |picture| row(results, compared, picture))
    })
}

fn row(results: &Results, compared: &Compared, picture: &Picture) -> [String; 22] {
    let setup = &results.setup;
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let hits = |value: fn(&Hits) -> Option<f64>| number(picture.hits.as_ref().and_then(value));
    let quality =
        |value: fn(&Quality) -> Option<f64>| number(picture.quality.as_ref().and_then(value));
    [
        compared.mode.clone(),
        compared.cache.clone(),
        picture.prompt.to_string(),
        setup.prompts.get(picture.prompt).cloned().unwrap_or_default(),
        picture.seed.to_string(),
        picture.file.clone(),
        setup.width.to_string(),
        setup.height.to_string(),
        setup.steps.to_string(),
        number(Some(picture.encode_ms)),
        number(Some(picture.prepare_ms)),
        number(Some(picture.denoise_ms)),
        number(Some(picture.decode_ms)),
        number(Some(picture.total_ms)),
        hits(|hits| hits.per_compared),
        hits(|hits| Some(hits.per_step)),
        hits(|hits| hits.tutorial),
        quality(|quality| quality.psnr),
        quality(|quality| quality.ssim),
        quality(|quality| quality.ssimulacra2),
        quality(|quality| quality.latents_error),
        compared.peak_memory_bytes.map_or_else(String::new, |bytes| bytes.to_string()),
    ]
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_owned()
}

/// What was compared, on what.
pub(crate) fn headline(results: &Results) -> String {
    format!("{} on {}", results.setup.model, results.setup.device)
}

/// What all pictures have in common, in a sentence.
pub(crate) fn setup(results: &Results) -> String {
    let setup = &results.setup;
    let guidance = setup.guidance.map(|guidance| format!(", guidance {guidance}"));
    format!(
        "{} x {}, {} steps{}, {}, {} prompt{} from seed {}; quality against {}.",
        setup.width,
        setup.height,
        setup.steps,
        guidance.unwrap_or_default(),
        setup.dtype,
        setup.prompts.len(),
        if setup.prompts.len() == 1 { "" } else { "s" },
        setup.seed,
        results.reference,
    )
}

/// What stands beside a picture: time with speedup, and quality.
pub(crate) fn title(results: &Results, compared: &Compared, picture: &Picture) -> Vec<String> {
    let plain = results.plain(&compared.mode).filter(|_| compared.is_cached());
    let plain = plain.and_then(|plain| plain.picture(picture.prompt));
    let time = seconds(picture.total_ms);
    let time = match plain {
        Some(plain) => format!("{time}, {:.2}x", plain.total_ms / picture.total_ms),
        None => time,
    };
    let quality = match &picture.quality {
        _ if compared.name == results.reference => "the reference".to_owned(),
        Some(quality) => {
            let psnr = quality.psnr.map(|psnr| format!("PSNR {psnr:.1} dB"));
            let score = quality.ssimulacra2.map(|score| format!("SSIMULACRA 2 {score:.1}"));
            psnr.into_iter().chain(score).collect::<Vec<_>>().join(", ")
        }
        None => "quality not measured".to_owned(),
    };
    vec![time, quality]
}

/// The table of the caching tutorial, a line a configuration, with what it lacks.
pub(crate) fn summary(results: &Results) -> String {
    let mut text = format!("# {}\n\n{}\n\n", headline(results), setup(results));
    let rule = "|---".repeat(HEADINGS.len());
    let _ = writeln!(text, "| {} |\n{rule}|", HEADINGS.join(" | "));
    for compared in &results.configurations {
        let cells = cells(results, compared).map(|cell| escaped(&cell));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    let failed = results.configurations.iter().filter_map(|compared| {
        compared.error.as_ref().map(|error| format!("- {}: {error}\n", compared.name))
    });
    let failed: String = failed.collect();
    if !failed.is_empty() {
        text += &format!("\nFailed:\n\n{failed}");
    }
    if !results.floors.is_empty() {
        text += "\nQuality floors, against the same mode without a cache:\n\n";
        let lines = results.floors.iter().map(|floor| format!("- {}\n", found(floor)));
        text.extend(lines);
    }
    if let Some(Recommendation { fastest, best, not_worth_it, rule }) = &results.recommendation {
        let _ = writeln!(text, "\nFastest: {fastest}. Best at each speed: {}.", best.join("; "));
        if !not_worth_it.is_empty() {
            let lines: String = not_worth_it.iter().map(|line| format!("- {line}\n")).collect();
            text += &format!("\nNot worth it:\n\n{lines}");
        }
        let _ = writeln!(text, "\nThe rule: {rule}.");
    }
    text + "\nTime is prompt to pixels, in the mean; speedup is against the same mode without a cache. \
            Hits are means over pictures of hits by comparisons and by steps, over all block lists.\n"
}

/// What a search for thresholds found, in a sentence.
pub(crate) fn found(floor: &Floor) -> String {
    let Floor { mode, floor_db, flags, tried, .. } = floor;
    let count = tried.len();
    let Some(flags) = flags else {
        return format!(
            "{mode}: none of {count} thresholds kept every picture above {floor_db} dB"
        );
    };
    // The largest that passed is what was found.
    let passed = tried.iter().filter(|tried| tried.psnr >= *floor_db);
    let best = passed.max_by(|a, b| a.double.total_cmp(&b.double));
    let psnr = best.map_or(*floor_db, |best| best.psnr);
    format!(
        "{mode}: `{flags}` keeps every picture at {psnr:.1} dB or more, floor {floor_db} dB ({count} thresholds tried)"
    )
}

/// The means of a configuration, as [`HEADINGS`] names them.
pub(crate) fn cells(results: &Results, compared: &Compared) -> [String; 11] {
    let dash = || "–".to_owned();
    let mean = compared.mean.as_ref();
    let of = |value: Option<f64>, text: fn(f64) -> String| value.map_or_else(dash, text);
    let hits = mean.and_then(|mean| mean.hits);
    let quality = mean.and_then(|mean| mean.quality.as_ref());
    let is_reference = compared.name == results.reference;
    let measure = |value: Option<f64>, text: fn(f64) -> String| match is_reference {
        true => "reference".to_owned(),
        false => of(value, text),
    };
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    [
        compared.mode.clone(),
        compared.cache.clone(),
        of(mean.map(|mean| mean.total_ms), seconds),
        of(mean.and_then(|mean| mean.speedup), |speedup| format!("{speedup:.2}x")),
        of(hits.and_then(|hits| hits.per_compared), percent),
        of(hits.map(|hits| hits.per_step), percent),
        measure(quality.and_then(|quality| quality.psnr), |psnr| format!("{psnr:.1} dB")),
        measure(quality.and_then(|quality| quality.ssim), |ssim| format!("{ssim:.3}")),
        measure(quality.and_then(|quality| quality.ssimulacra2), |score| format!("{score:.1}")),
        measure(quality.and_then(|quality| quality.latents_error), |error| {
            format!("{:.1} %", 100.0 * error)
        }),
        of(compared.peak_memory_bytes.map(|bytes| bytes as f64), |bytes| {
            format!("{:.2} GB", bytes / 1e9)
        }),
    ]
}

/// Three digits of what counts.
pub(crate) fn seconds(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.0} ms") } else { format!("{:.2} s", ms / 1000.0) }
}

/// A cell's text must not end the cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
