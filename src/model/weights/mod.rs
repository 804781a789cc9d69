//! From weight files to typed tensors; every checkpoint name and split order lives in this folder.
//!
//! [`checkpoint`] opens files (found by `shards`, checked by `header`), [`naming`] gives their tensors diffusers'
//! names, [`reader`] checks them, `fuse` joins and converts them ([`dtype`]); the other files say
//! what each network holds, [`offload`] what waits in host memory. `counter` tells how many bytes that is. `infer` tells a config from the shapes of a file that comes without one.

pub mod blocks;
pub mod checkpoint;
pub mod clip;
pub(crate) mod counter;
pub mod dtype;
pub mod elastic;
pub mod flux;
mod fuse;
mod header;
mod infer;
pub mod naming;
pub mod offload;
pub mod reader;
pub(crate) mod shards;
pub mod stored_fp8;
pub(crate) mod synthetic;
pub mod t5;
pub mod tensor_source;
pub mod units;
pub mod vae;
pub mod width_biases;
