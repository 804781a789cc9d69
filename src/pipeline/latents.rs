//! latents
