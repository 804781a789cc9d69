//! FLUX.1 text-to-image: prompt in, picture out.
//!
//! Layers, each importing only downwards: [`pipeline`] (request to image) on [`cache`] and
//! [`elastic`] (step cache, modes) on [`model`] (text encoders, transformer, VAE) on [`ops`]
//! (one file an operation, with its CPU oracle) on [`device`] (tensors and where they live).
//! [`error`] and [`files`] lie under everything.
//!
//! Versions follow semver for [`pipeline`], [`cache`], [`elastic::Mode`], [`error`],
//! [`model::source::ModelSource`] and [`device::Tensor`]. The rest is public for this crate's own tests and
//! benches and changes with any version.
//!
//! ```
//! use flux_rt::pipeline::Engine;
//! use flux_rt::pipeline::Request;
//!
//! # fn main() -> flux_rt::Result<()> {
//! let mut engine = Engine::builder().model("demo").build()?;
//! let prompt = Some("a red apple".to_owned());
//! let request = Request { prompt, steps: Some(4), ..Request::default() };
//! let picture = engine.generate(&request)?.image;
//! assert_eq!([picture.width, picture.height], [128, 128]);
//! # Ok(())
//! # }
//! ```

pub mod error;
pub mod files;

pub mod device;

pub mod ops;

pub mod model;

pub mod cache;
pub mod elastic;

pub mod pipeline;

#[doc(hidden)]
pub mod ffi;

#[cfg(feature = "cli")]
mod report;

#[cfg(feature = "cli")]
pub mod cli;

pub use error::Error;
pub use error::Result;
