//! The flags of `flux-rt verify`.

use std::path::PathBuf;

use clap::Args;
use clap::ValueHint;

use crate::cli::args::ModelArgs;
use crate::cli::args::ProgressStyle;
use crate::cli::args::SpeedArgs;
use crate::cli::args::decibels;
use crate::cli::given::Given;

const VERIFY_EXAMPLES: &str = "\
Examples:
  flux-rt verify out/0001-a-red-apple-s0.png
  flux-rt verify lion.png --model black-forest-labs/FLUX.1-dev
  flux-rt verify lion.png --model models/FLUX.1-dev --device cpu --min-psnr 35
  flux-rt verify noise.png --latents noise.safetensors --json

A picture of flux-rt holds every setting that it was made with. It is made again from them, without
writing a file, and compared pixel by pixel: exit code 0 for the same pixels, or for a PSNR of at
least --min-psnr, else 7. Another GPU, or the CPU, rounds in other places: its pictures are near,
not the same. What is otherwise than when the picture was made is named on stderr: weights, version,
device, settings given here.

What is given here beats the picture; the defaults above are for what the picture does not say. No
file that a picture names is opened: what it needs beside the built-in model is named here.";

/// Make a picture again from its own settings, and compare the pixels
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(in crate::cli) struct VerifyArgs {
    /// A PNG of flux-rt
    #[arg(value_name = "PICTURE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) picture: PathBuf,
    /// Accept a picture whose PSNR is at least this, in dB: 100 is the same pixels, 40 hardly visible
    #[arg(long, value_name = "DB", value_parser = decibels, allow_negative_numbers = true)]
    pub(in crate::cli) min_psnr: Option<f64>,
    /// Latents that the picture was made from
    #[arg(long, value_name = "FILE", env = "FLUX_RT_LATENTS", hide_env = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) latents: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Speed")]
    pub(in crate::cli) speed: SpeedArgs,
    #[command(flatten, next_help_heading = "Model")]
    pub(in crate::cli) model: ModelArgs,
    #[command(flatten, next_help_heading = "Output")]
    pub(in crate::cli) output: VerifyOutputArgs,
    /// What beats the picture.
    #[arg(skip)]
    pub(in crate::cli) given: Given,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyOutputArgs {
    /// Print a JSON document
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Progress on stderr; auto is a bar on a terminal
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    #[arg(value_name = "STYLE", env = "FLUX_RT_PROGRESS", hide_env = true)]
    pub(in crate::cli) progress: ProgressStyle,
}
