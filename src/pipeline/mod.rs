//! From a request to an image: encode, prepare, denoise, decode.

pub mod builder;
mod caching;
mod decode;
mod denoise;
mod encode;
pub mod engine;
pub mod image;
pub mod latents;
mod load;
pub mod measure;
mod memory;
pub mod metadata;
mod open;
mod planning;
mod precision;
pub mod progress;
pub mod request;
pub mod schedule;
mod session;
pub mod tiling;

pub use builder::EngineBuilder;
pub use engine::Engine;
pub use engine::Generated;
pub use image::RgbImage;
pub use metadata::Metadata;
pub use progress::Event;
pub use progress::Phase;
pub use progress::Timings;
pub use request::DType;
pub use request::Defaults;
pub use request::DeviceChoice;
pub use request::Request;
pub use request::Rng;
pub use request::Settings;
