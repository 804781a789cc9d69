//! The flags of `flux-rt elastic`.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use clap::ValueHint;

use crate::cli::args::ModelArgs;
use crate::cli::args::device;
use crate::cli::args::number;
use crate::cli::args::whole_number;
use crate::pipeline::DeviceChoice;

const PREPARE_EXAMPLES: &str = "\
Examples:
  flux-rt elastic prepare --model black-forest-labs/FLUX.1-dev --out models/dev-elastic
  flux-rt elastic prepare --prompt-file prompts.txt --out prepared
  flux-rt run --model prepared --prompt \"a red apple\"

The new model draws the same pictures. Its blocks' heads and neurons are sorted by what is lost
without them, so that plans can leave out the last; what biases then become lies beside the weights.";

const PLAN_EXAMPLES: &str = "\
Examples:
  flux-rt elastic plan --model prepared --max-loss 0.05 --out fast.json
  flux-rt run --model prepared --mode fast.json --prompt \"a red apple\"
  flux-rt elastic plan --model prepared --max-loss 0.03 --name M --out prepared/plans/M.json

The loss is the relative L2 error of what the transformer predicts, over steps of the calibration
prompts. Times are measured on a GPU; on the CPU the table of an H100's kernels tells them.
A plan plans/S.json in a model's folder is what --mode S means for that model; likewise L and M.";

/// Fit a model to elastic modes
#[derive(Debug, Args)]
pub(in crate::cli) struct ElasticArgs {
    #[command(subcommand)]
    pub(in crate::cli) verb: ElasticVerb,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ElasticVerb {
    /// Sort a model's heads and neurons by importance, so that plans can leave out the last
    Prepare(Box<PrepareArgs>),
    /// Find the fastest plan whose loss stays under a bound
    Plan(Box<PlanArgs>),
}

/// Sort a model's heads and neurons by importance, so that plans can leave out the last
#[derive(Debug, Args)]
#[command(after_help = PREPARE_EXAMPLES)]
pub(in crate::cli) struct PrepareArgs {
    /// Folder of the new model, which must not be there yet
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) out: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) calibration: CalibrationArgs,
    #[command(flatten, next_help_heading = "Model")]
    pub(in crate::cli) model: ModelArgs,
}

/// Find the fastest plan whose loss stays under a bound
#[derive(Debug, Args)]
#[command(after_help = PLAN_EXAMPLES)]
pub(in crate::cli) struct PlanArgs {
    /// Most relative error of the velocity, between 0 and 1
    #[arg(long, value_name = "X", value_parser = number, allow_negative_numbers = true)]
    pub(in crate::cli) max_loss: f32,
    /// File of the plan
    #[arg(short, long, value_name = "FILE", default_value = "plan.json")]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) out: PathBuf,
    /// Replace the file
    #[arg(long)]
    pub(in crate::cli) overwrite: bool,
    /// What the plan calls itself
    #[arg(long, value_name = "NAME", default_value = "plan")]
    pub(in crate::cli) name: String,
    /// Print a JSON document with what every change of every block costs and brings
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) calibration: CalibrationArgs,
    #[command(flatten, next_help_heading = "Model")]
    pub(in crate::cli) model: ModelArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CalibrationArgs {
    /// Calibration prompts, one a line, # starts a comment line; - is stdin [default: twelve of its own]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) prompt_file: Option<PathBuf>,
    /// Seed of the first prompt's noise; the next has the next
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = whole_number::<u64>)]
    pub(in crate::cli) seed: u64,
    /// Pixels, a multiple of 16
    #[arg(long, value_name = "PIXELS", value_parser = whole_number::<usize>)]
    pub(in crate::cli) width: Option<usize>,
    /// Pixels, a multiple of 16
    #[arg(long, value_name = "PIXELS", value_parser = whole_number::<usize>)]
    pub(in crate::cli) height: Option<usize>,
    /// Denoising steps, of which every fourth is looked at
    #[arg(long, value_name = "N", value_parser = whole_number::<usize>)]
    pub(in crate::cli) steps: Option<usize>,
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device)]
    pub(in crate::cli) device: DeviceChoice,
}
