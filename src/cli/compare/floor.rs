//! `--quality-floor`: the largest thresholds with which the cache keeps every picture of a mode near that
//! without a cache.

use anyhow::Context as _;
use anyhow::Result;

use crate::cache::CacheOptions;
use crate::cache::Layout;
use crate::cli::compare::matrix::Configuration;
use crate::cli::compare::run::Comparison;
use crate::cli::compare::run::Outcome;
use crate::elastic::Mode;
use crate::error::Error;
use crate::pipeline::Engine;
use crate::pipeline::RgbImage;
use crate::report::results;
use crate::report::results::Compared;
use crate::report::results::Floor;
use crate::report::results::Results;
use crate::report::results::Tried;

/// Thresholds are not made smaller than this part of those that the search starts from.
const LEAST: f64 = 1.0 / 64.0;
/// Halvings of the range between thresholds that pass and that fail, as factors: 2^(1/16), 4 %.
const ROUNDS: usize = 4;

/// The cache of a floor, as configurations call it.
fn cache_name(floor: f64) -> String {
    format!("floor {floor} dB")
}

/// The configuration of a floor.
pub(super) fn name(mode: &Mode, floor: f64) -> String {
    results::name(&mode.to_string(), &cache_name(floor))
}

impl Comparison {
    /// Searches the thresholds for a mode, and draws the prompts with what it finds as one more
    /// configuration.
    ///
    /// # Errors
    /// Whatever stops it.
    pub(super) fn keep_floor(
        &mut self,
        engine: &mut Engine,
        mode: &Mode,
        floor: f64,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let name = name(mode, floor);
        let Some(results) = &mut outcome.results else { return Ok(()) };
        if is_done(results, mode, floor, self.prompts.len()) {
            return Ok(());
        }
        engine.use_mode(mode)?;
        let plain = self.plain(results, mode)?;
        let (base, base_flags) = self.base();
        let mut tried = Vec::new();
        let least = base.double.threshold.min(base.single.threshold);
        let found = search(1.0 / least, |factor| {
            let options = scaled(&base, factor);
            let thresholds = [options.double.threshold, options.single.threshold];
            let label = format!("{name}, threshold {}", flag(&options));
            self.progress.more(plain.len());
            let mut worst = f64::INFINITY;
            for (prompt, plain) in plain.iter().enumerate() {
                let made = self.draw(engine, label.clone(), prompt, Some(&options))?;
                worst = worst.min(made.image.psnr(plain));
                if worst < floor {
                    self.progress.skip(self.prompts.len() - prompt - 1);
                    break;
                }
            }
            tried.push(Tried { double: thresholds[0], single: thresholds[1], psnr: worst });
            Ok(worst >= floor)
        })?;
        let options = found.map(|factor| scaled(&base, factor));
        results.floors.retain(|of| of.mode != mode.to_string() || !is_equal(of.floor_db, floor));
        results.floors.push(Floor {
            mode: mode.to_string(),
            floor_db: floor,
            flags: options
                .as_ref()
                .map(|options| format!("{base_flags} --cache-threshold {}", flag(options))),
            configuration: options.as_ref().map(|_| name.clone()),
            tried,
        });
        let Some(options) = options else {
            results.configurations.retain(|compared| compared.name != name);
            return self.folder.keep(results);
        };
        let cache = cache_name(floor);
        let configuration = Configuration { mode: mode.clone(), cache, options: Some(options) };
        results.configurations.retain(|compared| compared.name != name);
        results.configurations.push(Compared::new(&mode.to_string(), &configuration.cache));
        self.progress.more(self.prompts.len() + 1);
        self.configuration(engine, &configuration, outcome)
    }

    /// The pictures of a mode without a cache, by prompt.
    fn plain(&self, results: &Results, mode: &Mode) -> Result<Vec<RgbImage>> {
        let plain = results.plain(&mode.to_string());
        let picture = |prompt| self.folder.picture(plain?.picture(prompt)?);
        (0..self.prompts.len())
            .map(|prompt| {
                picture(prompt).with_context(|| {
                    format!("a quality floor needs every picture of mode {mode} without a cache")
                })
            })
            .collect()
    }

    /// What the search starts from, and the flag that names it: the first cache that is compared.
    fn base(&self) -> (CacheOptions, String) {
        let cached = self.configurations.iter().find_map(|configuration| {
            Some((configuration.options.clone()?, format!("--cache {}", configuration.cache)))
        });
        cached.unwrap_or_else(|| {
            let preset = crate::cache::Preset::Aggressive;
            (preset.options().unwrap_or_default(), format!("--cache {preset}"))
        })
    }
}

/// Whether an earlier run found it out.
fn is_done(results: &Results, mode: &Mode, floor: f64, prompts: usize) -> bool {
    let of_mode = |of: &&Floor| of.mode == mode.to_string() && is_equal(of.floor_db, floor);
    let Some(Floor { configuration, .. }) = results.floors.iter().find(of_mode) else {
        return false;
    };
    let pictures = |name: &String| {
        let compared = results.configurations.iter().find(|compared| compared.name == *name);
        compared.map_or(0, |compared| compared.pictures.len())
    };
    configuration.as_ref().is_none_or(|name| pictures(name) == prompts)
}

/// Both are a user's number.
fn is_equal(a: f64, b: f64) -> bool {
    a.total_cmp(&b).is_eq()
}

/// The options with thresholds `factor` times as large, of four digits, at most 1: always.
fn scaled(base: &CacheOptions, factor: f64) -> CacheOptions {
    let threshold = |threshold: f64| {
        let value = (threshold * factor).min(1.0);
        let unit = 10_f64.powf(value.log10().floor() - 3.0);
        (value / unit).round() * unit
    };
    let short = |value: f64| format!("{value:.8}").parse().unwrap_or(value);
    let mut options = base.clone();
    for list in [&mut options.double, &mut options.single] {
        list.threshold = short(threshold(list.threshold));
    }
    options
}

/// What `--cache-threshold` says for these options.
fn flag(options: &CacheOptions) -> String {
    let CacheOptions { layout, double, single, .. } = options;
    match *layout == Layout::Unified || is_equal(double.threshold, single.threshold) {
        true => double.threshold.to_string(),
        false => format!("double.{},single.{}", double.threshold, single.threshold),
    }
}

/// The largest factor found that passes: from 1 doubled or halved until the answer changes, then
/// bisected. None if [`LEAST`] does not pass; `most` is not exceeded.
fn search(most: f64, mut passes: impl FnMut(f64) -> Result<bool>) -> Result<Option<f64>> {
    let (mut low, mut high): (f64, f64) = (1.0, 1.0);
    if passes(1.0)? {
        loop {
            high = (2.0 * low).min(most);
            if high <= low {
                return Ok(Some(low));
            }
            if !passes(high)? {
                break;
            }
            low = high;
        }
    } else {
        loop {
            low = high / 2.0;
            if low < LEAST {
                return Ok(None);
            }
            if passes(low)? {
                break;
            }
            high = low;
        }
    }
    for _ in 0..ROUNDS {
        let middle = (low * high).sqrt();
        if passes(middle)? { low = middle } else { high = middle }
    }
    Ok(Some(low))
}

/// Checks a floor before anything is loaded.
///
/// # Errors
/// [`Error::Request`].
pub(super) fn check(floor: Option<f64>, configurations: &[Configuration]) -> Result<()> {
    let Some(floor) = floor else { return Ok(()) };
    let refuse = |reason| Err(Error::Request { field: "quality-floor", reason }.into());
    if !(1.0..100.0).contains(&floor) {
        return refuse(format!("expected a PSNR in dB from 1 to below 100, found {floor}"));
    }
    if configurations.iter().all(|configuration| configuration.options.is_some()) {
        let reason = "expected none among --caches, against which pictures are measured";
        return refuse(reason.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Preset;

    /// What the search finds where all up to `edge` pass, and how many it tries.
    fn found(edge: f64, most: f64) -> (Option<f64>, usize) {
        let mut tried = Vec::new();
        let found = search(most, |factor| {
            assert!(factor <= most && !tried.contains(&factor.to_bits()), "{factor} again");
            tried.push(factor.to_bits());
            Ok(factor <= edge)
        });
        (found.unwrap(), tried.len())
    }

    #[test]
    fn the_edge_is_found_within_four_percent() {
        for edge in [0.02, 0.3, 0.99, 1.0, 1.01, 1.7, 3.9] {
            let (found, tried) = found(edge, 5.0);
            let found = found.unwrap();
            assert!(found <= edge && edge < found * 1.045, "{found} for {edge}");
            assert!(tried <= 11, "{tried}");
        }
        assert_eq!(found(10.0, 5.0), (Some(5.0), 4));
        assert_eq!(found(0.001, 5.0).0, None);
        let failed = search(5.0, |_| Err(Error::Cancelled.into()));
        assert!(failed.is_err());
    }

    #[test]
    fn thresholds_are_scaled_together() {
        let mut base = Preset::Aggressive.options().unwrap();
        assert_eq!(flag(&scaled(&base, 1.0)), "0.2");
        assert_eq!(flag(&scaled(&base, 2.0_f64.powf(-1.3))), "0.08123");
        assert_eq!(flag(&scaled(&base, 1.0 / 64.0)), "0.003125");
        base.single.threshold = 0.4;
        assert_eq!(flag(&scaled(&base, 1.5)), "double.0.3,single.0.6");
        assert_eq!(flag(&scaled(&base, 5.0)), "1", "no more than always");
    }
}
