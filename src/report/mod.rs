//! What a comparison of configurations comes to: measures of quality, the document of all results, tables.

pub(crate) mod latents;
pub(crate) mod perceptual;
pub(crate) mod quality;
pub(crate) mod recommendation;
pub(crate) mod results;
pub(crate) mod ssim;
pub(crate) mod tables;
