//! The flags that name a model and its parts.

use std::path::PathBuf;

use clap::Args;
use clap::ValueHint;

#[derive(Debug, Args)]
pub(in crate::cli) struct ModelArgs {
    /// demo (built in), a folder, a .safetensors file, a Hugging Face id in the local cache, or
    /// synthetic:flux-dev (random weights, for speed)
    #[arg(long, value_name = "SRC", default_value = "demo", env = "FLUX_RT_MODEL")]
    #[arg(hide_env = true, value_hint = ValueHint::AnyPath)]
    pub(in crate::cli) model: String,
    /// Transformer weights instead of the model's
    #[arg(long, value_name = "FILE", env = "FLUX_RT_TRANSFORMER", hide_env = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) transformer: Option<PathBuf>,
    /// VAE weights instead of the model's
    #[arg(long, value_name = "FILE", env = "FLUX_RT_VAE", hide_env = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) vae: Option<PathBuf>,
    /// CLIP weights instead of the model's
    #[arg(long, value_name = "FILE", env = "FLUX_RT_TEXT_ENCODER", hide_env = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(in crate::cli) text_encoder: Option<PathBuf>,
    /// T5 weights instead of the model's
    #[arg(long = "text-encoder-2", value_name = "FILE", env = "FLUX_RT_TEXT_ENCODER_2")]
    #[arg(hide_env = true, value_hint = ValueHint::FilePath)]
    pub(in crate::cli) text_encoder_2: Option<PathBuf>,
    /// Folder with CLIP's tokenizer
    #[arg(long, value_name = "DIR", env = "FLUX_RT_TOKENIZER")]
    #[arg(hide_env = true, value_hint = ValueHint::DirPath)]
    pub(in crate::cli) tokenizer: Option<PathBuf>,
    /// Folder with T5's tokenizer
    #[arg(long, value_name = "DIR", env = "FLUX_RT_TOKENIZER_2")]
    #[arg(hide_env = true, value_hint = ValueHint::DirPath)]
    pub(in crate::cli) tokenizer_2: Option<PathBuf>,
}
