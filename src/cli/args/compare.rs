//! The flags of `flux-rt compare`.

use std::path::PathBuf;

use clap::Args;
use clap::ValueHint;
use clap::builder::FalseyValueParser;

use crate::cli::args::CacheName;
use crate::cli::args::ComputeArgs;
use crate::cli::args::ModelArgs;
use crate::cli::args::ProgressStyle;
use crate::cli::args::PromptArgs;
use crate::cli::args::RngArgs;
use crate::cli::args::ShapeArgs;
use crate::cli::args::cache::NameParser;
use crate::cli::args::decibels;
use crate::cli::args::mode;
use crate::cli::args::whole_number;
use crate::elastic::Mode;

const COMPARE_EXAMPLES: &str = "\
Examples:
  flux-rt compare                                      XL and S, three caches, three prompts
  flux-rt compare --modes original,XL,S --caches none,aggressive --out results
  flux-rt compare --prompt \"a red apple\" \"a blue car\" --caches none,mine.toml
  flux-rt compare --out results --resume               goes on where Ctrl-C stopped it
  flux-rt compare --modes S --quality-floor 35         the cache's largest thresholds above 35 dB

Every configuration draws a picture to warm up and then every prompt, with seeds S, S+1, ...; quality
is measured against the reference's picture of the same prompt and seed. A configuration that fails
is reported, and the rest goes on.

The folder then holds pictures/, grids/, charts/, report.html (all of it, opens offline), summary.md,
results.csv and results.json. The summary goes to stdout too; all else goes to stderr. Ctrl-C stops after the current step and keeps the finished pictures.";

/// Make the same pictures in several modes and caches, and compare times and quality
#[derive(Debug, Args)]
#[command(after_help = COMPARE_EXAMPLES)]
pub(in crate::cli) struct CompareArgs {
    /// Elastic modes, separated by commas: original, XL, L, M, S, or PLAN.json
    #[arg(
        long,
        alias = "mode",
        value_name = "MODES",
        value_delimiter = ',',
        default_value = "XL,S"
    )]
    #[arg(value_parser = mode, help_heading = "Configurations")]
    pub(in crate::cli) modes: Vec<Mode>,
    /// Caches, separated by commas: none, aggressive, conservative, or FILE.toml
    #[arg(
        long,
        alias = "cache",
        value_name = "CACHES",
        value_delimiter = ',',
        help_heading = "Configurations"
    )]
    #[arg(default_value = "none,aggressive,conservative", value_parser = NameParser)]
    #[arg(hide_possible_values = true)]
    pub(in crate::cli) caches: Vec<CacheName>,
    /// Also search, for each mode, the largest thresholds with which the first cache of --caches keeps
    /// every picture's PSNR against the mode without one at DB or more; needs none among --caches
    #[arg(long, value_name = "DB", help_heading = "Configurations")]
    #[arg(value_parser = decibels, allow_negative_numbers = true)]
    pub(in crate::cli) quality_floor: Option<f64>,
    #[command(flatten, next_help_heading = "Prompts")]
    pub(in crate::cli) prompts: PromptArgs,
    #[command(flatten, next_help_heading = "Pictures")]
    pub(in crate::cli) shape: ShapeArgs,
    /// Seed of the first prompt's noise; the next has the next
    #[arg(long, value_name = "S", default_value_t = 42, env = "FLUX_RT_SEED", hide_env = true)]
    #[arg(value_parser = whole_number::<u64>, allow_negative_numbers = true)]
    pub(in crate::cli) seed: u64,
    #[command(flatten)]
    pub(in crate::cli) rng: RngArgs,
    #[command(flatten, next_help_heading = "Speed")]
    pub(in crate::cli) compute: ComputeArgs,
    #[command(flatten, next_help_heading = "Model")]
    pub(in crate::cli) model: ModelArgs,
    #[command(flatten, next_help_heading = "Output")]
    pub(in crate::cli) output: CompareOutputArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CompareOutputArgs {
    /// Folder of the results
    #[arg(short, long, value_name = "DIR", default_value = "results", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) out: PathBuf,
    /// Go on with the comparison in the folder: what it holds is not made again
    #[arg(long, conflicts_with = "overwrite")]
    pub(in crate::cli) resume: bool,
    /// Replace a comparison in the folder
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub(in crate::cli) overwrite: bool,
    /// Print results.json instead of the summary
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Progress on stderr; auto is a bar on a terminal, else a line a picture
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    #[arg(value_name = "STYLE", env = "FLUX_RT_PROGRESS", hide_env = true)]
    pub(in crate::cli) progress: ProgressStyle,
}
