//! Whether a document of results can be what this program wrote: files are data, and means and charts are made of
//! their numbers.

use std::collections::BTreeSet;

use crate::report::results::Compared;
use crate::report::results::Hits;
use crate::report::results::Picture;
use crate::report::results::Quality;
use crate::report::results::Results;
use crate::report::results::name;

/// More than a picture can take: thirty years.
const MOST_MS: f64 = 1e12;

/// Nothing, or what is wrong with the first field that is: what was expected and what was found.
///
/// # Errors
/// See above.
pub(crate) fn check(results: &Results) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for compared in &results.configurations {
        let Compared { name: found, mode, cache, pictures, .. } = compared;
        let expected = name(mode, cache);
        if *found != expected || !names.insert(found) {
            return Err(format!("expected one configuration {expected:?}, found {found:?}"));
        }
        let mut prompts = BTreeSet::new();
        for picture in pictures {
            let at = |reason| format!("picture {} of {found}: {reason}", picture.prompt);
            if !prompts.insert(picture.prompt) {
                return Err(at("expected one of each prompt, found another".to_owned()));
            }
            let seed = results.setup.seed.checked_add(picture.prompt as u64);
            if seed != Some(picture.seed) {
                return Err(at(format!("expected seed {seed:?}, found {}", picture.seed)));
            }
            check_picture(picture).map_err(at)?;
        }
    }
    Ok(())
}

fn check_picture(picture: &Picture) -> Result<(), String> {
    let Picture { encode_ms, prepare_ms, denoise_ms, decode_ms, total_ms, hits, quality, .. } =
        picture;
    let mut numbers = vec![
        ("encode_ms", Some(*encode_ms), 0.0, MOST_MS),
        ("prepare_ms", Some(*prepare_ms), 0.0, MOST_MS),
        ("denoise_ms", Some(*denoise_ms), 0.0, MOST_MS),
        ("decode_ms", Some(*decode_ms), 0.0, MOST_MS),
        ("total_ms", Some(*total_ms), f64::MIN_POSITIVE, MOST_MS),
    ];
    if let Some(Hits { per_compared, per_step, tutorial }) = hits {
        numbers.extend([
            ("per_compared", *per_compared, 0.0, 1.0),
            ("per_step", Some(*per_step), 0.0, 1.0),
            ("tutorial", *tutorial, 0.0, 1.0),
        ]);
    }
    if let Some(Quality { psnr, ssim, ssimulacra2, latents_error, .. }) = quality {
        numbers.extend([
            ("psnr", *psnr, 0.0, 100.0),
            ("ssim", *ssim, -1.0, 1.0),
            ("ssimulacra2", *ssimulacra2, -1e6, 100.0),
            ("latents_error", *latents_error, 0.0, 1e12),
        ]);
    }
    for (field, value, least, most) in numbers {
        // Means of many equal numbers may be off by a rounding.
        let fits = |value: f64| value >= least - 1e-9 * least.abs() && value <= most * (1.0 + 1e-9);
        if let Some(value) = value.filter(|&value| !fits(value)) {
            return Err(format!("{field}: expected {least} to {most}, found {value}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::blank;
    use crate::report::results::blank_picture;

    fn results(change: impl Fn(&mut Results)) -> Result<(), String> {
        let mut results = blank();
        let mut compared = Compared::new("XL", "none");
        compared.pictures.push(Picture {
            hits: Some(Hits { per_compared: None, per_step: 1.0, tutorial: Some(0.0) }),
            ..blank_picture(0)
        });
        results.configurations.push(compared);
        change(&mut results);
        check(&results)
    }

    #[test]
    fn what_cannot_have_been_measured_is_refused() {
        assert_eq!(results(|_| ()), Ok(()));
        let picture = |results: &mut Results, change: fn(&mut Picture)| {
            change(&mut results.configurations[0].pictures[0]);
        };
        let wrong = |change: fn(&mut Picture)| results(|results| picture(results, change));
        for (outcome, part) in [
            (wrong(|picture| picture.total_ms = 1e308), "total_ms: expected"),
            (wrong(|picture| picture.total_ms = 0.0), "total_ms: expected"),
            (wrong(|picture| picture.denoise_ms = f64::NAN), "denoise_ms: expected"),
            (wrong(|picture| picture.seed = 1), "expected seed Some(42), found 1"),
            (wrong(|picture| picture.hits.as_mut().unwrap().per_step = 5e9), "per_step: expected"),
            (results(|results| results.configurations[0].name = "x".into()), "\"XL, none\""),
            (
                results(|results| {
                    let again = results.configurations[0].pictures[0].clone();
                    results.configurations[0].pictures.push(again);
                }),
                "one of each prompt",
            ),
        ] {
            let reason = outcome.unwrap_err();
            assert!(reason.contains(part), "no {part} in {reason}");
        }
    }
}
