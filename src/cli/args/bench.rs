//! The flags of `flux-rt bench`.

use clap::Args;

use crate::cli::args::CacheArgs;
use crate::cli::args::ModelArgs;
use crate::cli::args::SpeedArgs;
use crate::cli::args::whole_number;

const BENCH_EXAMPLES: &str = "\
Examples:
  flux-rt bench                                        the demo model
  flux-rt bench --model synthetic:flux-dev --width 1024 --height 1024 --steps 28
  flux-rt bench --model synthetic:flux-schnell --json > schnell.json

Every picture has a prompt of its own, so that encoding counts. With a GPU one more picture is made
with each kernel launched and timed by itself; the table says what each of them reached.";

/// Measure how long loading, each phase and each kernel take
#[derive(Debug, Args)]
#[command(after_help = BENCH_EXAMPLES)]
pub(in crate::cli) struct BenchArgs {
    #[command(flatten, next_help_heading = "Picture")]
    pub(in crate::cli) picture: BenchPictureArgs,
    #[command(flatten, next_help_heading = "Speed")]
    pub(in crate::cli) speed: SpeedArgs,
    #[command(flatten, next_help_heading = "Cache")]
    pub(in crate::cli) cache: CacheArgs,
    #[command(flatten, next_help_heading = "Model")]
    pub(in crate::cli) model: ModelArgs,
    /// Measured pictures
    #[arg(long, value_name = "N", help_heading = "Measurement", default_value_t = 5, value_parser = at_least_one)]
    pub(in crate::cli) runs: usize,
    /// Pictures before the first that is measured
    #[arg(long, value_name = "N", help_heading = "Measurement", default_value_t = 1, value_parser = whole_number::<usize>)]
    pub(in crate::cli) warmup: usize,
    /// Print how the CUDA kernels of matrix products are cut, and why, and measure nothing
    #[arg(long, help_heading = "Measurement")]
    pub(in crate::cli) kernels: bool,
    /// Leave out the table of kernels
    #[arg(long, help_heading = "Measurement")]
    pub(in crate::cli) no_kernels: bool,
    /// Print a JSON document
    #[arg(long, help_heading = "Measurement")]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchPictureArgs {
    /// Pixels, a multiple of 16
    #[arg(long, value_name = "PIXELS", value_parser = whole_number::<usize>)]
    pub(in crate::cli) width: Option<usize>,
    /// Pixels, a multiple of 16
    #[arg(long, value_name = "PIXELS", value_parser = whole_number::<usize>)]
    pub(in crate::cli) height: Option<usize>,
    /// Denoising steps
    #[arg(long, value_name = "N", value_parser = whole_number::<usize>)]
    pub(in crate::cli) steps: Option<usize>,
    /// T5 tokens, padding included
    #[arg(long, value_name = "TOKENS", value_parser = whole_number::<usize>)]
    pub(in crate::cli) max_sequence_length: Option<usize>,
    /// Decode a picture larger than the VAE's own size in tiles
    #[arg(long)]
    pub(in crate::cli) vae_tiling: bool,
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    match whole_number(text)? {
        0 => Err("expected a whole number, 1 or more"),
        number => Ok(number),
    }
}
