//! From a request to an image: encode, prepare, denoise, decode.

pub mod image;
pub mod metadata;
pub mod schedule;
