//! From weight files to typed tensors; every checkpoint name and split order lives in this folder.

pub mod clip;
pub mod flux;
pub mod t5;
pub mod vae;
