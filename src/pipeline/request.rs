//! What a user asks for, and what it becomes once the model's defaults are filled in.

use std::fmt;
use std::str::FromStr;

use crate::cache::CacheOptions;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::model::config::VaeConfig;
use crate::ops::noise::Grid;
use crate::pipeline::load::MAX_T5_TOKENS;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// CUDA when there is a usable GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "auto" => return Ok(Self::Auto),
            None if text == "cpu" => return Ok(Self::Cpu),
            None if text == "cuda" => return Ok(Self::Cuda(0)),
            Some(("cuda", index)) => {
                if let Ok(index) = index.parse() {
                    return Ok(Self::Cuda(index));
                }
            }
            _ => {}
        }
        let reason = format!("expected auto, cpu, cuda or cuda:N, found `{text}`");
        Err(Error::Request { field: "device", reason })
    }
}

/// The pipeline's dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DType {
    /// f32 on the CPU, bf16 on CUDA.
    #[default]
    Auto,
    /// Everything in f32.
    F32,
    /// Weights kept in bf16; noise, times and latents rounded as diffusers' bf16 pipeline does.
    /// On the CPU activations stay f32.
    Bf16,
}

impl fmt::Display for DType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// Whose random numbers the initial noise repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rng {
    /// A CUDA `torch.Generator`'s, whose numbers depend on the card.
    TorchCuda {
        /// How many blocks the card runs at once; `None` is the card that computes, on the CPU an H100.
        grid: Option<Grid>,
    },
    /// A CPU `torch.Generator`'s.
    TorchCpu,
    /// A CPU generator's in bf16 before PyTorch 2.12.
    TorchCpuLegacy,
}

impl Default for Rng {
    fn default() -> Self {
        Self::TorchCuda { grid: None }
    }
}

impl fmt::Display for Rng {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TorchCuda { .. } => "torch-cuda",
            Self::TorchCpu => "torch-cpu",
            Self::TorchCpuLegacy => "torch-cpu-legacy",
        })
    }
}

/// One image to make; what is `None` takes the model's default. New fields come with new versions: end with
/// `..Request::default()`.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// What the picture shows; `None` means the model's example prompt.
    pub prompt: Option<String>,
    /// Another text for T5; `None` means that both encoders read the prompt.
    pub prompt_2: Option<String>,
    /// Pixels, a multiple of 16 from 16 to 8192.
    pub width: Option<usize>,
    /// Pixels, a multiple of 16 from 16 to 8192.
    pub height: Option<usize>,
    /// Denoising steps, 1 to 1000.
    pub steps: Option<usize>,
    /// Distilled guidance strength, 0 to 100; schnell has none.
    pub guidance: Option<f32>,
    /// Seed of the initial noise.
    pub seed: u64,
    /// Whose noise.
    pub rng: Rng,
    /// T5 tokens, padding included: 1 to 512.
    pub max_sequence_length: Option<usize>,
    /// Decode in tiles ([`crate::pipeline::tiling`]) a picture that is larger than the VAE's own size.
    pub vae_tiling: bool,
    /// What is skipped; `None` computes every block of every step.
    pub cache: Option<CacheOptions>,
    /// `[tokens, 64]`: packed initial latents instead of noise.
    pub latents: Option<Tensor<f32, 2>>,
    /// After every how many steps [`crate::pipeline::Event::Preview`] is reported; `None` and 0 are never. Each
    /// takes as long as decoding the picture, and does not change it.
    pub preview_every: Option<usize>,
}

/// The model's defaults.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Defaults {
    /// Used when there is no prompt.
    pub prompt: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// 28 with guidance embedding, 4 without.
    pub steps: usize,
    /// 3.5 with guidance embedding, else none.
    pub guidance: Option<f32>,
    /// T5 tokens, padding included: the tokenizer's own length. A request may ask for up to 512.
    pub max_sequence_length: usize,
    /// Of the card that computes, on the CPU an H100's.
    pub noise_grid: Grid,
    /// Double and single blocks, which the cache's options must fit.
    pub blocks: [usize; 2],
}

/// A request with every default filled in, and every value checked that [`Defaults`] is enough to check.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// What the picture shows.
    pub prompt: String,
    /// Another text for T5.
    pub prompt_2: Option<String>,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Denoising steps.
    pub steps: usize,
    /// None for a model without guidance embedding.
    pub guidance: Option<f32>,
    /// Seed of the initial noise.
    pub seed: u64,
    /// Whose noise.
    pub rng: Rng,
    /// T5 tokens, padding included.
    pub max_sequence_length: usize,
    /// Decode a picture larger than the VAE's own size in tiles.
    pub vae_tiling: bool,
    /// What is skipped.
    pub cache: Option<CacheOptions>,
    /// Whether the request brought its own initial latents, in place of the seed's noise.
    pub own_latents: bool,
}

/// Pixels on a side: far above what FLUX.1 draws well, low enough that no size overflows.
pub(crate) const MAX_SIDE: usize = 8192;
/// Pixels on a side of an image token, 2 x 2 latents.
pub(crate) const TOKEN: usize = 2 * VaeConfig::PIXELS_PER_LATENT;
/// Bytes of a prompt: far more than the encoders read, few enough to be split into tokens at once.
const MAX_PROMPT: usize = 32 << 10;
/// Steps: as many as the scheduler has training timesteps.
const MAX_STEPS: usize = 1000;

impl Settings {
    /// Fills `request` up with `defaults` and checks every value.
    ///
    /// # Errors
    /// [`Error::Request`] naming the option, what was expected and what was found.
    pub fn new(request: &Request, defaults: &Defaults) -> Result<Self> {
        check_length("prompt", request.prompt.as_deref())?;
        check_length("prompt-2", request.prompt_2.as_deref())?;
        let width = side("width", request.width.unwrap_or(defaults.width))?;
        let height = side("height", request.height.unwrap_or(defaults.height))?;
        let steps = request.steps.unwrap_or(defaults.steps);
        check("steps", (1..=MAX_STEPS).contains(&steps), || {
            format!("expected 1 to {MAX_STEPS}, found {steps}")
        })?;
        let guidance = match (request.guidance, defaults.guidance) {
            (Some(value), None) => {
                return Err(Error::Request {
                    field: "guidance",
                    reason: format!(
                        "this model has no guidance embedding and cannot use {value}; leave it out"
                    ),
                });
            }
            (value, default) => value.or(default),
        };
        if let Some(value) = guidance {
            check("guidance", value.is_finite() && (0.0..=100.0).contains(&value), || {
                format!("expected 0 to 100, found {value}")
            })?;
        }
        let longest = defaults.max_sequence_length;
        let max_sequence_length = request.max_sequence_length.unwrap_or(longest);
        check("max-sequence-length", (1..=MAX_T5_TOKENS).contains(&max_sequence_length), || {
            format!("expected 1 to {MAX_T5_TOKENS}, found {max_sequence_length}")
        })?;
        if let Some(cache) = &request.cache {
            cache.schedule(defaults.blocks, steps, true)?;
        }
        if let Some(latents) = &request.latents {
            let tokens = (height / TOKEN) * (width / TOKEN);
            let [rows, channels] = latents.shape();
            check("latents", rows == tokens, || {
                format!("expected {tokens} tokens for {width}x{height}, found [{rows}, {channels}]")
            })?;
        }
        Ok(Self {
            prompt: request.prompt.clone().unwrap_or_else(|| defaults.prompt.clone()),
            prompt_2: request.prompt_2.clone(),
            width,
            height,
            steps,
            guidance,
            seed: request.seed,
            rng: match request.rng {
                Rng::TorchCuda { grid } => {
                    Rng::TorchCuda { grid: Some(grid.unwrap_or(defaults.noise_grid)) }
                }
                other => other,
            },
            max_sequence_length,
            vae_tiling: request.vae_tiling,
            cache: request.cache.clone(),
            own_latents: request.latents.is_some(),
        })
    }

    /// Rows and columns of image tokens, 16 pixels each.
    #[must_use]
    pub fn grid(&self) -> [usize; 2] {
        [self.height / TOKEN, self.width / TOKEN]
    }
}

fn check_length(field: &'static str, prompt: Option<&str>) -> Result<()> {
    let bytes = prompt.map_or(0, str::len);
    check(field, bytes <= MAX_PROMPT, || {
        format!("expected at most {MAX_PROMPT} bytes, found {bytes}")
    })
}

fn side(field: &'static str, pixels: usize) -> Result<usize> {
    let down = pixels / TOKEN * TOKEN;
    check(field, (TOKEN..=MAX_SIDE).contains(&pixels) && pixels == down, || {
        let near = if down >= TOKEN && pixels < MAX_SIDE {
            format!("; {down} or {} would do", down + TOKEN)
        } else {
            String::new()
        };
        let range = format!("{TOKEN} to {MAX_SIDE}");
        format!("expected a multiple of {TOKEN} from {range} pixels, found {pixels}{near}")
    })?;
    Ok(pixels)
}

fn check(field: &'static str, holds: bool, reason: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Request { field, reason: reason() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_no_picture_can_hold_is_refused() {
        let defaults = Defaults {
            prompt: "a fox".to_owned(),
            width: 64,
            height: 64,
            steps: 4,
            guidance: None,
            max_sequence_length: 256,
            noise_grid: Grid::H100,
            blocks: [1, 1],
        };
        let longest = "x".repeat(MAX_PROMPT);
        let too_long = format!("{longest}x");
        let settings = |prompt: &str, prompt_2: &str| {
            let [prompt, prompt_2] = [prompt, prompt_2].map(|text| Some(text.to_owned()));
            Settings::new(&Request { prompt, prompt_2, ..Request::default() }, &defaults)
        };
        assert_eq!(settings(&longest, &longest).unwrap().prompt, longest);
        let error = settings(&too_long, "").unwrap_err().to_string();
        assert_eq!(error, "prompt: expected at most 32768 bytes, found 32769");
        let error = settings("", &too_long).unwrap_err().to_string();
        assert_eq!(error, "prompt-2: expected at most 32768 bytes, found 32769");
    }
}
