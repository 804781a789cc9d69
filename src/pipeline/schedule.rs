//! The noise levels of a run: `sigma [N + 1]`, 1 to 0, and the times the model is told.
//!
//! Source: `FlowMatchEulerDiscreteScheduler.set_timesteps` and `FluxPipeline.__call__` of diffusers
//! 0.42, operation by operation: values are equal to the last bit.

use half::bf16;

use crate::error::Error;
use crate::error::Result;
use crate::model::config::SchedulerConfig;

/// More steps than anybody runs; keeps a slip of the keyboard from asking for terabytes.
const MOST_STEPS: usize = 10_000;

/// How times and guidance are rounded on their way into the sinusoid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeRounding {
    /// An f32 pipeline: not at all.
    F32,
    /// diffusers with a bf16 model: timestep, timestep / 1000 and the product with 1000.
    DiffusersBf16,
    /// The original code with a bf16 model: sigma and the product with 1000. Differs from diffusers
    /// in 7 of 28 steps.
    OriginalBf16,
}

/// The noise levels of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// `[N + 1]`: the noise level before each step, and 0 after the last.
    pub sigmas: Vec<f32>,
    /// `[N]`: `1000 * sigma`.
    pub timesteps: Vec<f32>,
}

impl Schedule {
    /// `steps` noise levels for a picture of `image_tokens` tokens (the target's alone).
    ///
    /// # Errors
    /// [`Error::Request`] if `steps` is 0 or above 10,000, or the config's shift leads to no usable
    /// noise levels.
    pub fn new(config: &SchedulerConfig, steps: usize, image_tokens: usize) -> Result<Self> {
        if !(1..=MOST_STEPS).contains(&steps) {
            let reason = format!("expected 1 to {MOST_STEPS}, found {steps}");
            return Err(Error::Request { field: "steps", reason });
        }
        Self::from_sigmas(config, &linear_sigmas(steps), image_tokens)
    }

    /// Shifts given noise levels, falling within (0, 1], as the config says.
    ///
    /// # Errors
    /// [`Error::Request`] if `sigmas` are none, outside (0, 1] or not falling, before or after the
    /// shift.
    pub fn from_sigmas(
        config: &SchedulerConfig,
        sigmas: &[f32],
        image_tokens: usize,
    ) -> Result<Self> {
        if !falling(sigmas, |sigma, next| sigma > next) {
            let reason = format!(
                "expected noise levels falling from at most 1 to above 0, found {sigmas:?}"
            );
            return Err(Error::Request { field: "sigmas", reason });
        }
        let mut shifted: Vec<f32> = if config.use_dynamic_shifting {
            let shift = narrow(mu(config, image_tokens).exp());
            sigmas.iter().map(|sigma| shift / (shift + (1.0 / sigma - 1.0))).collect()
        } else {
            let (shift, less_one) = (narrow(config.shift), narrow(config.shift - 1.0));
            sigmas.iter().map(|sigma| shift * sigma / (1.0 + less_one * sigma)).collect()
        };
        // A strong shift may bring neighbours together, which only wastes a step.
        if !falling(&shifted, |sigma, next| sigma >= next) {
            let reason = format!(
                "expected a size whose noise levels fall from at most 1 to above 0; with \
                 {image_tokens} image tokens the shift in the model's scheduler_config.json gives \
                 {shifted:?}"
            );
            return Err(Error::Request { field: "width", reason });
        }
        let scale = config.num_train_timesteps as f32;
        let timesteps = shifted.iter().map(|sigma| sigma * scale).collect();
        shifted.push(0.0);
        Ok(Self { sigmas: shifted, timesteps })
    }

    /// N.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// `[N]`: what the sinusoid of the time embedding gets in each step, about `1000 * sigma`.
    #[must_use]
    pub fn model_times(&self, rounding: TimeRounding) -> Vec<f32> {
        let times = self.sigmas.iter().zip(&self.timesteps);
        times
            .map(|(&sigma, &timestep)| match rounding {
                TimeRounding::F32 => timestep / 1000.0 * 1000.0,
                TimeRounding::DiffusersBf16 => round(round(round(timestep) / 1000.0) * 1000.0),
                TimeRounding::OriginalBf16 => round(round(sigma) * 1000.0),
            })
            .collect()
    }
}

/// What the sinusoid of the guidance embedding gets: `1000 * guidance`. In bf16, 3.5 becomes 3504.
#[must_use]
pub fn model_guidance(guidance: f32, rounding: TimeRounding) -> f32 {
    match rounding {
        TimeRounding::F32 => guidance * 1000.0,
        TimeRounding::DiffusersBf16 | TimeRounding::OriginalBf16 => round(round(guidance) * 1000.0),
    }
}

/// The exponent of the shift: a line through (`base_image_seq_len`, `base_shift`) and
/// (`max_image_seq_len`, `max_shift`), not clamped outside them.
fn mu(config: &SchedulerConfig, image_tokens: usize) -> f64 {
    let (base, max) = (config.base_image_seq_len as f64, config.max_image_seq_len as f64);
    let slope = (config.max_shift - config.base_shift) / (max - base);
    image_tokens as f64 * slope + (config.base_shift - slope * base)
}

/// `numpy.linspace(1, 1 / steps, steps)` in f64, then f32.
fn linear_sigmas(steps: usize) -> Vec<f32> {
    let last = 1.0 / steps as f64;
    let gap = (last - 1.0) / (steps - 1) as f64;
    let mut sigmas: Vec<f32> = (0..steps).map(|i| narrow(i as f64 * gap + 1.0)).collect();
    if let Some(sigma) = sigmas.last_mut() {
        *sigma = narrow(last);
    }
    sigmas
}

/// Whether there are noise levels, all in (0, 1] and each `falls` to the next; NaN fails too.
fn falling(sigmas: &[f32], falls: fn(f32, f32) -> bool) -> bool {
    let inside = sigmas.iter().all(|&sigma| sigma > 0.0 && sigma <= 1.0);
    inside && !sigmas.is_empty() && sigmas.windows(2).all(|pair| falls(pair[0], pair[1]))
}

fn round(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}

#[expect(clippy::cast_possible_truncation, reason = "the reference goes to f32 here")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "the values are exact")]

    use super::*;

    fn config(use_dynamic_shifting: bool, shift: f64) -> SchedulerConfig {
        SchedulerConfig {
            num_train_timesteps: 1000,
            shift,
            use_dynamic_shifting,
            base_shift: 0.5,
            max_shift: 1.15,
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
        }
    }

    fn assert_close(actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len());
        for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            assert!((actual - expected).abs() <= 5e-7, "{index}: {actual}, expected {expected}");
        }
    }

    #[test]
    fn mu_follows_the_image_size() {
        let dev = config(true, 3.0);
        for (tokens, expected) in
            [(1024, 0.63), (2304, 0.846_667), (4096, 1.15), (4032, 1.139_167), (16384, 3.23)]
        {
            let mu = mu(&dev, tokens);
            assert!((mu - expected).abs() < 1e-6, "{tokens} tokens: {mu}");
        }
    }

    #[test]
    fn twenty_eight_steps_of_dev() {
        let schedule = Schedule::new(&config(true, 3.0), 28, 4096).unwrap();
        let expected = [
            1.0, 0.988_409, 0.976_222, 0.963_394, 0.949_873, 0.935_599, 0.920_509, 0.904_531,
            0.887_583, 0.869_576, 0.850_406, 0.829_956, 0.808_096, 0.784_672, 0.759_511, 0.732_413,
            0.703_145, 0.671_435, 0.636_964, 0.599_357, 0.558_163, 0.512_844, 0.462_748, 0.407_078,
            0.344_849, 0.274_828, 0.195_455, 0.104_721, 0.0,
        ];
        assert_close(&schedule.sigmas, &expected);
        assert_eq!(schedule.model_times(TimeRounding::F32)[3], 963.394_4);
        let expected = [
            1000.0, 988.0, 976.0, 964.0, 948.0, 936.0, 920.0, 904.0, 888.0, 868.0, 852.0, 828.0,
            808.0, 784.0, 760.0, 732.0, 704.0, 672.0, 636.0, 600.0, 560.0, 512.0, 462.0, 408.0,
            344.0, 274.0, 195.0, 104.5,
        ];
        let diffusers = schedule.model_times(TimeRounding::DiffusersBf16);
        assert_eq!(diffusers, expected);
        let original = schedule.model_times(TimeRounding::OriginalBf16);
        assert_eq!((original[7], diffusers[7]), (908.0, 904.0));
        assert_eq!(original.iter().zip(&diffusers).filter(|(a, b)| a != b).count(), 7);
    }

    #[test]
    fn other_step_counts_of_dev() {
        let sigmas = |steps| Schedule::new(&config(true, 3.0), steps, 4096).unwrap().sigmas;
        let expected = [
            1.0, 0.983_608, 0.966_014, 0.947_080, 0.926_647, 0.904_531, 0.880_513, 0.854_338,
            0.825_702, 0.794_239, 0.759_511, 0.720_980, 0.677_987, 0.629_707, 0.575_103, 0.512_844,
            0.441_200, 0.357_875, 0.259_758, 0.142_529, 0.0,
        ];
        assert_close(&sigmas(20), &expected);
        let fifty = sigmas(50);
        assert_close(&fifty[..4], &[1.0, 0.993_580, 0.986_979, 0.980_190]);
        assert_close(&fifty[46..], &[0.215_456, 0.167_767, 0.116_289, 0.060_550, 0.0]);
        assert_eq!(sigmas(1), [1.0, 0.0]);
    }

    #[test]
    fn four_steps_of_schnell() {
        let schedule = Schedule::new(&config(false, 1.0), 4, 4096).unwrap();
        assert_eq!(schedule.sigmas, [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(schedule.timesteps, [1000.0, 750.0, 500.0, 250.0]);
        let times = schedule.model_times(TimeRounding::DiffusersBf16);
        assert_eq!(times, [1000.0, 752.0, 500.0, 250.0]);
    }

    #[test]
    fn guidance_is_rounded_like_time() {
        for (guidance, expected) in [(3.5, 3504.0), (2.5, 2496.0), (3.0, 3008.0), (1.0, 1000.0)] {
            assert_eq!(model_guidance(guidance, TimeRounding::DiffusersBf16), expected);
        }
        assert_eq!(model_guidance(3.5, TimeRounding::F32), 3500.0);
    }

    #[test]
    fn nonsense_is_refused() {
        let dev = config(true, 3.0);
        for steps in [0, MOST_STEPS + 1] {
            let error = Schedule::new(&dev, steps, 4096).unwrap_err().to_string();
            assert!(error.starts_with("steps: expected 1 to 10000"), "{error}");
        }
        for sigmas in [[].as_slice(), &[0.5, 0.6], &[1.5], &[0.5, 0.0], &[f32::NAN]] {
            assert!(Schedule::from_sigmas(&dev, sigmas, 4096).is_err(), "{sigmas:?}");
        }
        let flat = SchedulerConfig { base_image_seq_len: 4096, ..dev };
        assert!(Schedule::new(&flat, 4, 1024).is_err());
        assert!(Schedule::new(&config(false, f64::NAN), 4, 1024).is_err());
    }
}
