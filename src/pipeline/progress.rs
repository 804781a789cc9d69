//! What a running generation reports, and how long each phase took.

use std::fmt;

#[cfg(doc)]
use crate::pipeline::Request;
use crate::pipeline::RgbImage;

/// The four phases of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Prompt to text states.
    Encode,
    /// What does not depend on the latents.
    Prepare,
    /// The steps.
    Denoise,
    /// Latents to pixels.
    Decode,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Encode => "encode",
            Self::Prepare => "prepare",
            Self::Denoise => "denoise",
            Self::Decode => "decode",
        })
    }
}

/// Something that happened; the receiver answers whether to go on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Event<'e> {
    /// A phase begins.
    Phase(Phase),
    /// A denoising step is done.
    Step {
        /// Steps done so far.
        done: usize,
        /// Steps of this image.
        steps: usize,
    },
    /// What the picture will be, as far as the steps so far tell; see [`Request::preview_every`].
    Preview {
        /// Steps done so far.
        done: usize,
        /// Of the picture's size.
        image: &'e RgbImage,
    },
}

/// Milliseconds of each phase.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Timings {
    /// See [`Phase::Encode`]; next to nothing when the prompt was encoded before.
    pub encode_ms: f64,
    /// See [`Phase::Prepare`].
    pub prepare_ms: f64,
    /// See [`Phase::Denoise`].
    pub denoise_ms: f64,
    /// See [`Phase::Decode`].
    pub decode_ms: f64,
}

impl Timings {
    /// All phases together.
    #[must_use]
    pub fn total_ms(&self) -> f64 {
        self.encode_ms + self.prepare_ms + self.denoise_ms + self.decode_ms
    }
}
