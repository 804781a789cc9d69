//! The charts of a comparison.

use crate::report::chart::bars::Bar;
use crate::report::chart::bars::Bars;
use crate::report::chart::scatter::Point;
use crate::report::chart::scatter::Scatter;
use crate::report::results::Compared;
use crate::report::results::Means;
use crate::report::results::Picture;
use crate::report::results::Quality;
use crate::report::results::Results;
use crate::report::tables::seconds;

/// How long a picture takes in each configuration; a line spans the fastest and the slowest picture.
pub(crate) fn time(results: &Results) -> Bars {
    let unit = Unit::of(results);
    let bar = |compared: &Compared, mean: Option<&Means>| {
        let times = || compared.pictures.iter().map(|picture| unit.value(picture.total_ms));
        let ends = [times().fold(f64::INFINITY, f64::min), times().fold(0.0, f64::max)];
        (
            mean.map(|mean| mean.total_ms),
            mean.map(|mean| unit.value(mean.total_ms)),
            mean.map(|_| ends),
        )
    };
    let label = |compared: &Compared| {
        let (time, value, range) = bar(compared, compared.mean.as_ref());
        (value, range, time.map(seconds))
    };
    Bars {
        title: "Time of a picture, prompt to pixels".into(),
        axis: unit.name().into(),
        bars: bars(results, label),
        mark: None,
    }
}

/// How much faster each configuration is than its mode without a cache.
pub(crate) fn speedup(results: &Results) -> Bars {
    let label = |compared: &Compared| {
        let speedup = compared.mean.as_ref().and_then(|mean| mean.speedup);
        (speedup, None, speedup.map(|speedup| format!("{speedup:.2}x")))
    };
    Bars {
        title: "Speedup over the same mode without a cache".into(),
        axis: "times as fast".into(),
        bars: bars(results, label),
        mark: Some(1.0),
    }
}

/// PSNR and SSIMULACRA 2 against time.
pub(crate) fn quality(results: &Results) -> Scatter {
    let unit = Unit::of(results);
    let (modes, caches) = (names(results, |of| &of.mode), names(results, |of| &of.cache));
    let best = results.recommendation.as_ref().map_or(&[][..], |of| &of.best);
    let point = |compared: &Compared| {
        let mean = compared.mean.as_ref()?;
        let quality = mean.quality.as_ref()?;
        let measures: [fn(&Quality) -> Option<f64>; 2] = [|of| of.psnr, |of| of.ssimulacra2];
        Some(Point {
            name: compared.name.clone(),
            mode: position(&modes, &compared.mode),
            cache: position(&caches, &compared.cache),
            time: unit.value(mean.total_ms),
            values: measures.map(|measure| measure(quality)).to_vec(),
            is_best: best.contains(&compared.name),
        })
    };
    let reference = results.configurations.iter().find(|of| of.name == results.reference);
    let mark = reference.and_then(|of| of.mean.as_ref());
    Scatter {
        title: "Quality against time".into(),
        axis: format!("{} a picture", unit.name()),
        panels: vec!["PSNR, dB".into(), "SSIMULACRA 2".into()],
        points: results.configurations.iter().filter_map(point).collect(),
        mark: mark.map(|mean| {
            (unit.value(mean.total_ms), format!("{}, the reference", results.reference))
        }),
    }
}

/// A bar a configuration: value, range, label.
fn bars(
    results: &Results,
    of: impl Fn(&Compared) -> (Option<f64>, Option<[f64; 2]>, Option<String>),
) -> Vec<Bar> {
    let caches = names(results, |of| &of.cache);
    let bar = |compared: &Compared| {
        let (value, range, label) = of(compared);
        let missing = if compared.error.is_some() { "failed" } else { "–" };
        Bar {
            name: compared.name.clone(),
            value,
            range,
            label: label.unwrap_or_else(|| missing.into()),
            group: position(&caches, &compared.cache),
        }
    };
    results.configurations.iter().map(bar).collect()
}

/// Names in the order in which they come first.
fn names(results: &Results, name: fn(&Compared) -> &String) -> Vec<&String> {
    let mut names = Vec::new();
    for name in results.configurations.iter().map(name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn position(names: &[&String], name: &String) -> usize {
    names.iter().position(|known| *known == name).unwrap_or(0)
}

/// What times are given in.
#[derive(Clone, Copy)]
enum Unit {
    Milliseconds,
    Seconds,
}

impl Unit {
    /// Milliseconds while every picture takes less than a second.
    fn of(results: &Results) -> Self {
        let pictures = || results.configurations.iter().flat_map(|compared| &compared.pictures);
        let is_short = |picture: &Picture| picture.total_ms < 1000.0;
        if pictures().all(is_short) { Self::Milliseconds } else { Self::Seconds }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
        }
    }

    fn value(self, ms: f64) -> f64 {
        match self {
            Self::Milliseconds => ms,
            Self::Seconds => ms / 1000.0,
        }
    }
}
