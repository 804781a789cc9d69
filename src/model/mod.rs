//! The networks of FLUX.1, written once over [`crate::ops`] for every device.

pub mod clip;
pub(crate) mod closest;
pub mod config;
pub mod flux;
pub mod hf_cache;
pub mod plan;
pub mod source;
pub mod t5;
pub mod tokenizer;
pub mod vae;
pub mod weights;
