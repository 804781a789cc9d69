//! What a comparison of configurations comes to: measures of quality, the document of all results, tables,
//! charts, grids of pictures, and the report that holds all of it.

pub(crate) mod chart;
pub(crate) mod check;
pub(crate) mod grid;
pub(crate) mod latents;
pub(crate) mod page;
pub(crate) mod perceptual;
pub(crate) mod quality;
pub(crate) mod recommendation;
pub(crate) mod results;
pub(crate) mod ssim;
pub(crate) mod tables;
