//! What the measurements recommend, by rules that it states.

use serde::Deserialize;
use serde::Serialize;

use crate::report::results::Compared;
use crate::report::results::Results;

/// A cache that saves less of its mode's time than this is not worth what it changes.
const LEAST_SAVING: f64 = 0.1;

/// The PSNR of the same pixels.
const SAME: f64 = 100.0;

/// Which configurations to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recommendation {
    /// The first of `best`.
    pub(crate) fastest: String,
    /// From fast to slow, those worth their cache that no other of those beats in both time and nearness
    /// to the reference.
    pub(crate) best: Vec<String>,
    /// The others, each with the reason.
    pub(crate) not_worth_it: Vec<String>,
    /// How that was decided.
    pub(crate) rule: String,
}

/// A configuration as the rules see it.
struct Point<'r> {
    compared: &'r Compared,
    time: f64,
    /// PSNR against the reference; that of the reference itself is above all others.
    nearness: f64,
}

/// From configurations with times and quality; none if there are fewer than two.
pub(crate) fn recommend(results: &Results) -> Option<Recommendation> {
    let mut points: Vec<Point<'_>> =
        results.configurations.iter().filter_map(|compared| point(results, compared)).collect();
    points.sort_by(|a, b| a.time.total_cmp(&b.time));
    if points.len() < 2 {
        return None;
    }
    // What its own cache rules out beats nobody: else a cache without effect, faster by chance, would
    // rule out its mode.
    let wasted: Vec<Option<String>> = points.iter().map(|point| wasted(point, &points)).collect();
    let worth: Vec<&Point<'_>> = points
        .iter()
        .zip(&wasted)
        .filter(|(_, wasted)| wasted.is_none())
        .map(|(of, _)| of)
        .collect();
    let (mut best, mut not_worth_it) = (Vec::new(), Vec::new());
    for (point, wasted) in points.iter().zip(wasted) {
        match wasted.or_else(|| beaten(point, &worth)) {
            Some(reason) => not_worth_it.push(format!("{}: {reason}", point.compared.name)),
            None => best.push(point.compared.name.clone()),
        }
    }
    let rule = format!(
        "a cache is not worth it if it skips nothing or saves less than {:.0} % of its mode's time; of the rest, a \
         configuration is not worth it if another is faster and at least as near to {} by PSNR",
        100.0 * LEAST_SAVING,
        results.reference,
    );
    Some(Recommendation { fastest: best.first()?.clone(), best, not_worth_it, rule })
}

fn point<'r>(results: &Results, compared: &'r Compared) -> Option<Point<'r>> {
    let mean = compared.mean.as_ref()?;
    let nearness = match compared.name == results.reference {
        true => f64::INFINITY,
        false => mean.quality.as_ref()?.psnr?,
    };
    Some(Point { compared, time: mean.total_ms, nearness })
}

/// Why a configuration's cache is not worth it; none if it is, or there is none.
fn wasted(point: &Point<'_>, points: &[Point<'_>]) -> Option<String> {
    let plain = points
        .iter()
        .find(|other| other.compared.mode == point.compared.mode && !other.compared.is_cached())
        .filter(|_| point.compared.is_cached())?;
    let skipped = point.compared.mean.as_ref().and_then(|mean| mean.hits);
    if skipped.is_some_and(|hits| hits.per_step <= 0.0) {
        return Some("its cache skips nothing".to_owned());
    }
    let saving = 1.0 - point.time / plain.time;
    if saving >= LEAST_SAVING {
        return None;
    }
    let name = &plain.compared.name;
    let saves = match saving > 0.0 {
        true => format!("saves {:.1} % of {name}'s time", 100.0 * saving),
        false => format!("takes {:.0} % longer than {name}", -100.0 * saving),
    };
    let costs = match plain.nearness.is_finite() {
        true => format!("costs {:.1} dB", (plain.nearness - point.nearness).max(0.0)),
        false if point.nearness >= SAME => "changes no pixel".to_owned(),
        false => format!("costs a picture {:.1} dB from it", point.nearness),
    };
    Some(format!("{saves} and {costs}"))
}

/// Which other configuration is faster and no farther from the reference, in a sentence; none if none is.
fn beaten(point: &Point<'_>, worth: &[&Point<'_>]) -> Option<String> {
    let better = |other: &&&Point<'_>| other.time < point.time && other.nearness >= point.nearness;
    // The nearest of those, and of equals the fastest.
    let better = worth
        .iter()
        .filter(better)
        .max_by(|a, b| a.nearness.total_cmp(&b.nearness).then(b.time.total_cmp(&a.time)))?;
    let name = &better.compared.name;
    let nearness = match better.nearness.is_finite() {
        true => format!(", by {:.1} dB", better.nearness - point.nearness),
        false => String::new(),
    };
    let faster = 100.0 * (1.0 - better.time / point.time);
    Some(format!("{name} is {faster:.0} % faster and no farther from the reference{nearness}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::Means;
    use crate::report::results::Quality;
    use crate::report::results::blank;

    fn compared(mode: &str, cache: &str, total_ms: f64, psnr: Option<f64>) -> Compared {
        let quality = psnr.map(|psnr| Quality {
            psnr: Some(psnr),
            ssim: None,
            ssimulacra2: None,
            latents_error: None,
            why: Vec::new(),
        });
        Compared {
            mean: Some(Means { total_ms, speedup: None, hits: None, quality }),
            ..Compared::new(mode, cache)
        }
    }

    #[test]
    fn it_follows_from_the_numbers() {
        let mut results = blank();
        results.reference = "XL, none".into();
        results.configurations = vec![
            compared("XL", "none", 1000.0, None),
            compared("XL", "aggressive", 500.0, Some(38.0)),
            compared("XL", "conservative", 950.0, Some(59.0)),
            compared("S", "none", 700.0, Some(34.0)),
            compared("S", "aggressive", 400.0, Some(33.0)),
            compared("S", "conservative", 735.0, Some(33.5)),
        ];
        let found = recommend(&results).unwrap();
        assert_eq!(found.fastest, "S, aggressive");
        assert_eq!(found.best, ["S, aggressive", "XL, aggressive", "XL, none"]);
        let expected = [
            "S, none: XL, aggressive is 29 % faster and no farther from the reference, by 4.0 dB",
            "S, conservative: takes 5 % longer than S, none and costs 0.5 dB",
            "XL, conservative: saves 5.0 % of XL, none's time and costs a picture 59.0 dB from it",
        ];
        assert_eq!(found.not_worth_it, expected);
    }

    #[test]
    fn a_cache_without_effect_does_not_rule_out_its_mode() {
        let mut results = blank();
        results.reference = "XL, none".into();
        results.configurations = vec![
            compared("XL", "none", 300.0, None),
            compared("XL", "aggressive", 298.0, Some(100.0)),
            compared("S", "none", 183.0, Some(42.1)),
            compared("S", "aggressive", 182.0, Some(42.1)),
        ];
        let found = recommend(&results).unwrap();
        assert_eq!(found.fastest, "S, none");
        assert_eq!(found.best, ["S, none", "XL, none"]);
        assert_eq!(
            found.not_worth_it,
            [
                "S, aggressive: saves 0.5 % of S, none's time and costs 0.0 dB",
                "XL, aggressive: saves 0.7 % of XL, none's time and changes no pixel",
            ]
        );
    }

    #[test]
    fn one_configuration_recommends_nothing() {
        let mut results = blank();
        results.configurations = vec![compared("XL", "none", 1000.0, None)];
        assert_eq!(recommend(&results), None);
    }
}
