//! How far a run is, on stderr: a bar on a terminal, JSON lines for programs, a line a picture
//! elsewhere.

use std::io;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle as BarStyle;
use serde_json::json;

use crate::cache::CacheLog;
use crate::cli::args::ProgressStyle;
use crate::cli::cache_report::cache_report;
use crate::cli::stream;
use crate::pipeline::Event;
use crate::pipeline::Phase;
use crate::pipeline::Timings;

#[derive(Debug)]
enum Style {
    Bar(ProgressBar),
    Lines,
    Json,
    None,
}

/// Tells the user how far a run is.
#[derive(Debug)]
pub(super) struct Progress {
    style: Style,
    /// Of all prompts.
    pictures: usize,
    /// The one being made, counted from 1.
    picture: usize,
    /// What the pictures now are, where there are several kinds.
    label: String,
    phase: Phase,
    denoise_start: Instant,
}

impl Progress {
    pub(super) fn new(style: ProgressStyle, pictures: usize) -> Self {
        let style = match style {
            ProgressStyle::Auto if io::stderr().is_terminal() => Style::Bar(bar()),
            ProgressStyle::Auto => Style::Lines,
            ProgressStyle::Bar => Style::Bar(bar()),
            ProgressStyle::Json => Style::Json,
            ProgressStyle::None => Style::None,
        };
        let denoise_start = Instant::now();
        Self {
            style,
            pictures,
            picture: 0,
            label: String::new(),
            phase: Phase::Encode,
            denoise_start,
        }
    }

    /// The model is being loaded.
    pub(super) fn loading(&self, model: &str) {
        match &self.style {
            Style::Bar(bar) => show(bar, format!("loading {model}")),
            Style::Json => stream::event(&json!({ "event": "load", "model": model })),
            Style::Lines | Style::None => {}
        }
    }

    /// The model is there.
    pub(super) fn loaded(&self, device: &str, load_ms: f64) {
        match &self.style {
            Style::Bar(bar) => bar.finish_and_clear(),
            Style::Json => stream::event(
                &json!({ "event": "loaded", "device": device, "load_ms": milliseconds(load_ms) }),
            ),
            Style::Lines | Style::None => {}
        }
    }

    /// What the pictures from now on are.
    pub(super) fn label(&mut self, label: String) {
        self.label = label;
    }

    /// So many pictures need not be made.
    pub(super) fn skip(&mut self, pictures: usize) {
        self.picture += pictures;
    }

    /// So many pictures more are to be made than was known.
    pub(super) fn more(&mut self, pictures: usize) {
        self.pictures += pictures;
    }

    /// The next picture begins.
    pub(super) fn picture(&mut self, prompt: &str, seed: u64) {
        self.picture += 1;
        match &mut self.style {
            Style::Bar(bar) => {
                bar.finish_and_clear();
                *bar = self::bar();
            }
            Style::Json => stream::event(&json!({
                "event": "picture",
                "picture": self.picture,
                "pictures": self.pictures,
                "prompt": prompt,
                "seed": seed,
                "label": self.label,
            })),
            Style::Lines | Style::None => {}
        }
    }

    /// Something happened while a picture is made.
    pub(super) fn event(&mut self, event: Event<'_>) {
        if let Event::Phase(phase) = event {
            self.phase = phase;
            self.denoise_start = Instant::now();
        }
        match &self.style {
            Style::Bar(bar) => self.draw(bar, event),
            Style::Json => stream::event(&self.as_json(event)),
            Style::Lines | Style::None => {}
        }
    }

    /// The weights are being read once more, for their digests.
    pub(super) fn hashing(&self) {
        if let Style::Bar(bar) = &self.style {
            show(bar, format!("{}digests of the weights", self.which()));
        }
    }

    /// All pictures are there, and what is made of them is not yet.
    pub(super) fn reporting(&self) {
        if let Style::Bar(bar) = &self.style {
            show(bar, "charts, grids and the report".into());
        }
    }

    /// A picture is on the disk.
    pub(super) fn saved(&self, path: &Path, seed: u64, steps: usize, timings: &Timings) {
        let total_ms = timings.total_ms();
        let text = || {
            let rate = rate(steps, timings.denoise_ms / 1000.0);
            let seconds = total_ms / 1000.0;
            let plural = if steps == 1 { "" } else { "s" };
            format!(
                "{}seed {seed}: {steps} step{plural}, {rate}, {seconds:.2} s in all",
                self.which()
            )
        };
        match &self.style {
            Style::Bar(bar) => {
                bar.finish_and_clear();
                stream::line(&text());
            }
            Style::Lines => stream::line(&text()),
            Style::Json => stream::event(&json!({
                "event": "saved",
                "picture": self.picture,
                "path": path.to_string_lossy(),
                "total_ms": milliseconds(total_ms),
            })),
            Style::None => {}
        }
    }

    /// What the cache did to the picture.
    pub(super) fn cache(&self, log: &CacheLog) {
        match &self.style {
            Style::Bar(_) | Style::Lines => cache_report(log).lines().for_each(stream::line),
            Style::Json | Style::None => {}
        }
    }

    /// Takes the bar off the terminal.
    pub(super) fn clear(&self) {
        if let Style::Bar(bar) = &self.style {
            bar.finish_and_clear();
        }
    }

    fn draw(&self, bar: &ProgressBar, event: Event<'_>) {
        let which = self.which();
        let Event::Step { done, steps } = event else {
            return show(bar, format!("{which}{}", self.phase));
        };
        if bar.length().is_none() {
            bar.set_length(as_u64(steps));
            bar.set_style(style("{spinner} {prefix} {wide_bar} {pos}/{len} steps  {msg}"));
            bar.set_prefix(format!("{which}{}", self.phase));
        }
        bar.set_position(as_u64(done));
        let elapsed = self.denoise_start.elapsed();
        let left = steps - done + (self.pictures - self.picture) * steps;
        let eta = elapsed.mul_f64(ratio(left, done));
        bar.set_message(format!("{}  ETA {}", rate(done, elapsed.as_secs_f64()), clock(eta)));
    }

    fn as_json(&self, event: Event<'_>) -> serde_json::Value {
        match event {
            Event::Phase(phase) => {
                json!({ "event": "phase", "picture": self.picture, "phase": phase.to_string() })
            }
            Event::Step { done, steps } => json!({
                "event": "step",
                "picture": self.picture,
                "done": done,
                "steps": steps,
                "elapsed_ms": milliseconds(self.denoise_start.elapsed().as_secs_f64() * 1000.0),
            }),
            Event::Preview { done, .. } => {
                json!({ "event": "preview", "picture": self.picture, "done": done })
            }
        }
    }

    /// `[2/8] `, or nothing for a single picture, and what it is.
    fn which(&self) -> String {
        let label = match self.label.as_str() {
            "" => String::new(),
            label => format!("{label}: "),
        };
        match self.pictures {
            1 => label,
            pictures => format!("[{}/{pictures}] {label}", self.picture),
        }
    }
}

/// A time in milliseconds, to the microsecond: more digits are noise.
pub(super) fn milliseconds(time_ms: f64) -> f64 {
    (time_ms * 1000.0).round() / 1000.0
}

fn bar() -> ProgressBar {
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
}

/// A spinner with a text.
fn show(bar: &ProgressBar, text: String) {
    if bar.length().is_some() {
        bar.unset_length();
    }
    bar.set_style(style("{spinner} {msg}  {elapsed}"));
    bar.set_message(text);
    bar.enable_steady_tick(Duration::from_millis(100));
}

fn style(template: &str) -> BarStyle {
    let style = BarStyle::with_template(template).unwrap_or_else(|_| BarStyle::default_bar());
    style.progress_chars("=> ")
}

/// `7.4 it/s`, or `2.1 s/it` when a step takes longer than a second.
fn rate(steps: usize, seconds: f64) -> String {
    let each = seconds * ratio(1, steps);
    if each > 1.0 { format!("{each:.2} s/it") } else { format!("{:.2} it/s", each.recip()) }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round();
    let minutes = (seconds / 60.0).floor();
    let (hours, seconds) = ((minutes / 60.0).floor(), seconds - minutes * 60.0);
    if hours >= 1.0 {
        format!("{hours}:{:02}:{seconds:02}", minutes - hours * 60.0)
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

fn ratio(dividend: usize, divisor: usize) -> f64 {
    as_u64(dividend) as f64 / as_u64(divisor.max(1)) as f64
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_clocks_read_well() {
        assert_eq!(rate(28, 4.0), "7.00 it/s");
        assert_eq!(rate(2, 5.0), "2.50 s/it");
        assert_eq!(clock(Duration::from_millis(5400)), "0:05");
        assert_eq!(clock(Duration::from_secs(754)), "12:34");
        assert_eq!(clock(Duration::from_secs(3 * 3600 + 61)), "3:01:01");
    }
}
