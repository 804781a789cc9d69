//! image

/// An 8-bit RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Rows from the top, `3 * width * height` bytes.
    pub data: Vec<u8>,
}
