//! `--from`: a picture that is repeated.

use std::path::PathBuf;

use clap::Args;
use clap::ValueHint;

use crate::cli::given::Given;

#[derive(Debug, Args)]
pub(in crate::cli) struct FromArgs {
    /// Take every setting from this picture, a PNG of flux-rt; what is given beside it beats it
    #[arg(long, value_name = "PICTURE", env = "FLUX_RT_FROM", hide_env = true)]
    #[arg(value_hint = ValueHint::FilePath, help_heading = "Prompt")]
    pub(in crate::cli) from: Option<PathBuf>,
    /// What beats it.
    #[arg(skip)]
    pub(in crate::cli) given: Given,
}
