//! The VAE: latents to an image and back, channels last throughout.
//!
//! Spec flux 7; reference `AutoencoderKL` of diffusers.

pub mod blocks;
pub mod decoder;
pub mod encoder;

pub use decoder::decode;
pub use encoder::encode;
