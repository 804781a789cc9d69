//! The flags, as clap reads them; [`crate::cli::job`] checks what they mean together.
//!
//! Every option of `run` can also be set by a variable: `FLUX_RT_` and its name in capitals. A flag
//! beats a variable, a variable beats the default.

mod bench;
mod cache;
mod compare;
mod elastic;
mod from;
mod model;
mod verify;

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap::ValueHint;
use clap::builder::FalseyValueParser;
use clap::builder::PossibleValue;

pub(super) use crate::cli::args::bench::BenchArgs;
pub(super) use crate::cli::args::cache::CacheArgs;
pub(super) use crate::cli::args::cache::CacheName;
pub(super) use crate::cli::args::compare::CompareArgs;
pub(super) use crate::cli::args::compare::CompareOutputArgs;
pub(super) use crate::cli::args::elastic::CalibrationArgs;
pub(super) use crate::cli::args::elastic::ElasticArgs;
pub(super) use crate::cli::args::elastic::ElasticVerb;
pub(super) use crate::cli::args::elastic::PlanArgs;
pub(super) use crate::cli::args::elastic::PrepareArgs;
pub(super) use crate::cli::args::from::FromArgs;
pub(super) use crate::cli::args::model::ModelArgs;
pub(super) use crate::cli::args::verify::VerifyArgs;
use crate::elastic::Mode;
use crate::error::Error;
use crate::ops::noise::Grid;
use crate::pipeline::DType;
use crate::pipeline::DeviceChoice;

const RUN_EXAMPLES: &str = "\
Examples:
  flux-rt run                                          the model's example prompt
  flux-rt run --prompt \"a red apple\" --out apple.png
  flux-rt run --prompt \"a red apple\" \"a blue car\" --count 4 --seed 42 --out pictures/
  flux-rt run --prompt-file prompts.txt --mode S --cache conservative
  flux-rt run --model black-forest-labs/FLUX.1-dev --width 1024 --height 768 --json
  flux-rt run --from out/0001-a-red-apple-s0.png --seed 7    as that picture, with another seed

What is left out takes the model's default: FLUX.1-dev 1024x1024, 28 steps, guidance 3.5; schnell 4
steps, no guidance; demo its own size. Every option can also be set by a variable, FLUX_RT_STEPS=4
for --steps 4; a flag beats it.

Paths of the pictures go to stdout, all else to stderr. Ctrl-C stops after the current step and
keeps the finished pictures; a second one stops at once.";

const INSPECT_EXAMPLES: &str = "\
Examples:
  flux-rt inspect demo
  flux-rt inspect models/FLUX.1-dev --json
  flux-rt inspect flux1-dev.safetensors --tensors
  flux-rt inspect out/0001-a-red-apple-s0.png";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  flux-rt completions bash > ~/.local/share/bash-completion/completions/flux-rt
  flux-rt completions zsh > ~/.zfunc/_flux-rt
  flux-rt completions fish > ~/.config/fish/completions/flux-rt.fish";

const EXIT_CODES: &str = "\
Start with `flux-rt run --prompt \"a red apple\"`: a small model is part of the program.

Exit codes: 0 done, 1 other, 2 usage, 3 model file broken or unfit, 4 model not found,
5 not enough memory, 6 driver, CUDA or no GPU, 7 NaN or a failed check, 8 output not
writable, 130 Ctrl-C";

/// FLUX.1 text-to-image: prompt in, picture out
#[derive(Debug, Parser)]
#[command(name = "flux-rt", version, after_help = EXIT_CODES, max_term_width = 100)]
#[command(infer_subcommands = false)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make pictures from prompts
    Run(Box<RunArgs>),
    /// Make the same pictures in several modes and caches, and compare times and quality
    Compare(Box<CompareArgs>),
    /// Measure how long loading, each phase and each kernel take
    Bench(Box<BenchArgs>),
    /// Fit a model to elastic modes
    Elastic(ElasticArgs),
    /// Make a picture again from its own settings, and compare the pixels
    Verify(Box<VerifyArgs>),
    /// Show what is in a model, a weight file or a picture
    Inspect(InspectArgs),
    /// Show what this machine offers and what is missing
    Doctor(DoctorArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
}

/// Make pictures from prompts
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) from: FromArgs,
    #[command(flatten, next_help_heading = "Prompt")]
    pub(super) prompts: PromptArgs,
    #[command(flatten, next_help_heading = "Picture")]
    pub(super) picture: PictureArgs,
    #[command(flatten, next_help_heading = "Speed")]
    pub(super) speed: SpeedArgs,
    #[command(flatten, next_help_heading = "Cache")]
    pub(super) cache: Box<CacheArgs>,
    #[command(flatten, next_help_heading = "Model")]
    pub(super) model: ModelArgs,
    #[command(flatten, next_help_heading = "Noise")]
    pub(super) noise: NoiseArgs,
    #[command(flatten, next_help_heading = "Output")]
    pub(super) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct PromptArgs {
    /// What the picture shows; several make several pictures
    #[arg(short, long, value_name = "TEXT", num_args = 1.., env = "FLUX_RT_PROMPT")]
    #[arg(hide_env = true)]
    pub(super) prompt: Vec<String>,
    /// One prompt a line, # starts a comment line; - is stdin
    #[arg(long, value_name = "FILE", env = "FLUX_RT_PROMPT_FILE", hide_env = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) prompt_file: Option<PathBuf>,
    /// Another text for T5; CLIP then reads --prompt alone
    #[arg(long, value_name = "TEXT", env = "FLUX_RT_PROMPT_2", hide_env = true)]
    pub(super) prompt_2: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PictureArgs {
    #[command(flatten)]
    pub(super) shape: ShapeArgs,
    /// Seed of the noise; the same seed draws the same picture
    #[arg(long, value_name = "S", default_value_t = 0, env = "FLUX_RT_SEED", hide_env = true)]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    pub(super) seed: u64,
    /// Pictures of each prompt, with seeds S, S+1, ...
    #[arg(long, value_name = "N", default_value_t = 1, env = "FLUX_RT_COUNT", hide_env = true)]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    pub(super) count: usize,
}

/// What a picture is made with beside its prompt and its noise.
#[derive(Debug, Args)]
pub(super) struct ShapeArgs {
    /// Pixels, a multiple of 16
    #[arg(long, value_name = "PIXELS", env = "FLUX_RT_WIDTH", hide_env = true)]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    pub(super) width: Option<usize>,
    /// Pixels, a multiple of 16
    #[arg(long, value_name = "PIXELS", env = "FLUX_RT_HEIGHT", hide_env = true)]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    pub(super) height: Option<usize>,
    /// Denoising steps
    #[arg(long, value_name = "N", env = "FLUX_RT_STEPS", hide_env = true)]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    pub(super) steps: Option<usize>,
    /// How closely the picture follows the prompt; schnell has none
    #[arg(long, value_name = "G", env = "FLUX_RT_GUIDANCE", hide_env = true)]
    #[arg(value_parser = number, allow_negative_numbers = true)]
    pub(super) guidance: Option<f32>,
    /// T5 tokens of the prompt that are read, padding included
    #[arg(long, value_name = "TOKENS", env = "FLUX_RT_MAX_SEQUENCE_LENGTH", hide_env = true)]
    #[arg(value_parser = whole_number::<usize>, allow_negative_numbers = true)]
    pub(super) max_sequence_length: Option<usize>,
    /// Decode a picture larger than the VAE's own size (1024x1024) in overlapping tiles: takes less
    /// memory, changes the pixels a little
    #[arg(long, env = "FLUX_RT_VAE_TILING", hide_env = true)]
    #[arg(value_parser = FalseyValueParser::new())]
    pub(super) vae_tiling: bool,
}

#[derive(Debug, Args)]
pub(super) struct SpeedArgs {
    /// Elastic mode, exact to fast: original, XL, L, M, S, or a PLAN.json
    #[arg(long, value_name = "MODE", default_value_t, env = "FLUX_RT_MODE", hide_env = true)]
    #[arg(value_parser = mode)]
    pub(super) mode: Mode,
    #[command(flatten)]
    pub(super) compute: ComputeArgs,
}

/// Where and in what is computed.
#[derive(Debug, Args)]
pub(super) struct ComputeArgs {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto", env = "FLUX_RT_DEVICE")]
    #[arg(hide_env = true, value_parser = device)]
    pub(super) device: DeviceChoice,
    /// Kernels on CUDA: auto takes the card's best, portable those of every card
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    #[arg(value_name = "TIER", env = "FLUX_RT_TIER", hide_env = true)]
    pub(super) tier: TierName,
    /// GPU memory to take at most, in GB of 10^9 bytes, such as 22 or 15.5: weights that it does not
    /// hold wait in host memory; modes L, M and S then also put T5 into e4m3
    #[arg(long, value_name = "GB", env = "FLUX_RT_MAX_VRAM", hide_env = true)]
    #[arg(value_parser = gigabytes, allow_negative_numbers = true)]
    pub(super) max_vram: Option<usize>,
    /// Number format of the pipeline; auto is f32 on the CPU, bf16 on CUDA
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    #[arg(value_name = "DTYPE", env = "FLUX_RT_DTYPE", hide_env = true)]
    pub(super) dtype: DType,
}

#[derive(Debug, Args)]
pub(super) struct NoiseArgs {
    #[command(flatten)]
    pub(super) rng: RngArgs,
    /// Initial latents instead of noise: tensor `latents`, packed or not
    #[arg(long, value_name = "FILE", env = "FLUX_RT_LATENTS", hide_env = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) latents: Option<PathBuf>,
}

/// Whose random numbers the noise is.
#[derive(Debug, Args)]
pub(super) struct RngArgs {
    /// PyTorch generator to repeat: on CUDA, on the CPU, or on the CPU before 2.12 (bf16)
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    #[arg(value_name = "RNG", env = "FLUX_RT_RNG", hide_env = true)]
    pub(super) rng: RngName,
    /// GPU that torch-cuda repeats: h100, or how many blocks of 256 threads it runs [default: the one
    /// that computes, on the CPU h100]
    #[arg(long, value_name = "CARD", env = "FLUX_RT_RNG_GRID", hide_env = true)]
    #[arg(value_parser = rng_grid, allow_negative_numbers = true)]
    pub(super) rng_grid: Option<Grid>,
}

#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Folder of numbered files, or a .png file for a single picture
    #[arg(short, long, value_name = "PATH", default_value = "out", env = "FLUX_RT_OUT")]
    #[arg(hide_env = true, value_hint = ValueHint::AnyPath)]
    pub(super) out: PathBuf,
    /// Replace the files that --out and --save-latents name
    #[arg(long, env = "FLUX_RT_OVERWRITE", hide_env = true)]
    #[arg(value_parser = FalseyValueParser::new())]
    pub(super) overwrite: bool,
    /// Also save the final latents: f32 tensor `latents` [pictures, tokens, 64]
    #[arg(long, value_name = "FILE", env = "FLUX_RT_SAVE_LATENTS", hide_env = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) save_latents: Option<PathBuf>,
    /// Print a JSON document with settings, timings and paths
    #[arg(long, env = "FLUX_RT_JSON", hide_env = true)]
    #[arg(value_parser = FalseyValueParser::new())]
    pub(super) json: bool,
    /// Progress on stderr; auto is a bar on a terminal, else a line a picture
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    #[arg(value_name = "STYLE", env = "FLUX_RT_PROGRESS", hide_env = true)]
    pub(super) progress: ProgressStyle,
}

/// Show what is in a model, a weight file or a picture
#[derive(Debug, Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub(super) struct InspectArgs {
    /// A model folder, a .safetensors file, a PNG, `demo`, or a Hugging Face id
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(super) path: String,
    /// List every tensor with its number format and shape
    #[arg(long)]
    pub(super) tensors: bool,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

/// Show what this machine offers and what is missing
#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 when `flux-rt run` would work here.")]
pub(super) struct DoctorArgs {
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}

/// `--rng` without the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "the names that a user writes")]
pub(super) enum RngName {
    #[default]
    TorchCuda,
    TorchCpu,
    TorchCpuLegacy,
}

/// `--tier`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum TierName {
    #[default]
    Auto,
    Portable,
}

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ProgressStyle {
    #[default]
    Auto,
    Bar,
    Json,
    None,
}

impl ValueEnum for DType {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::F32, Self::Bf16]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }))
    }
}

/// The standard library says "invalid digit found in string"; this says what would be right.
fn whole_number<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    let parsed = text.parse();
    parsed.map_err(|_| match text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        true => "the number is too large",
        false => "expected a whole number, 0 or more",
    })
}

fn number(text: &str) -> Result<f32, &'static str> {
    text.parse().map_err(|_| "expected a number such as 3.5")
}

fn decibels(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or("expected dB from 0 to 100, such as 40")
}

/// Bytes of a number of GB.
fn gigabytes(text: &str) -> Result<usize, &'static str> {
    const EXPECTED: &str = "expected GB of GPU memory, from 0.1 to 10000, such as 22 or 15.5";
    let gb: f64 = text.parse().map_err(|_| EXPECTED)?;
    if !(0.1..=10_000.0).contains(&gb) {
        return Err(EXPECTED);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number below 10^13"
    )]
    Ok((gb * 1e9) as usize)
}

fn rng_grid(text: &str) -> Result<Grid, String> {
    text.parse().map_err(reason)
}

fn mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(reason)
}

fn device(text: &str) -> Result<DeviceChoice, String> {
    text.parse().map_err(reason)
}

/// clap names the flag itself.
fn reason(error: Error) -> String {
    match error {
        Error::Request { reason, .. } => reason,
        other => other.to_string(),
    }
}
