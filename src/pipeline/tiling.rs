//! The VAE decoder over overlapping tiles: less memory at a time, and slightly other pixels, since
//! GroupNorm and attention then see one tile.
//!
//! Spec flux 7.3; source: `AutoencoderKL.tiled_decode` of diffusers 0.42. A tile is as large as the
//! VAE's own size and starts 3/4 of that after the one before. Over the rest it fades in: from its
//! upper neighbour, then from its left one, both as they are after their own fading. Tiles are
//! blended in host memory, where decoding ends.

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::model::config::VaeConfig;
use crate::model::vae;
use crate::model::weights::vae::VaeWeights;

/// Pixels on a side of a latent.
const SCALE: usize = VaeConfig::PIXELS_PER_LATENT;
/// A tile has this many parts along a side, of which the last overlaps the next tile.
const PARTS: usize = 4;

/// The size of tiles, in latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    side: usize,
}

impl Tiling {
    /// The tiles of a VAE.
    ///
    /// # Errors
    /// [`Error::Request`] if the VAE's own size cannot be cut in four: diffusers then gives pictures
    /// of another size than asked for.
    pub fn new(config: &VaeConfig) -> Result<Self> {
        let pixels = config.sample_size;
        if pixels == 0 || !pixels.is_multiple_of(PARTS * SCALE) {
            let expected = PARTS * SCALE;
            return Err(Error::Request {
                field: "vae-tiling",
                reason: format!(
                    "expected a VAE whose sample_size is a multiple of {expected}, found {pixels}"
                ),
            });
        }
        Ok(Self { side: pixels / SCALE })
    }

    /// Latents on a side of a tile.
    #[must_use]
    pub fn side(self) -> usize {
        self.side
    }

    /// Latents that two neighbours share.
    fn overlap(self) -> usize {
        self.side / PARTS
    }

    /// Latents from the start of a tile to that of the next.
    fn stride(self) -> usize {
        self.side - self.overlap()
    }
}

/// Image `[8 h, 8 w, 3]` of `z [h, w, latent_channels]`, as [`vae::decode`] but in tiles, if `z` is
/// larger than one; then the image is in host memory.
///
/// # Errors
/// As [`vae::decode`].
pub fn decode_tiled(
    weights: &VaeWeights,
    z: &Tensor<Act, 3>,
    tiling: Tiling,
) -> Result<Tensor<Act, 3>> {
    let [height, width, _] = z.shape();
    if height.max(width) <= tiling.side {
        return vae::decode(weights, z);
    }
    let overlap = SCALE * tiling.overlap();
    let (device, z) = (z.device(), z.to_host()?);
    let mut image = Tensor::zeros([SCALE * height, SCALE * width, 3]);
    let mut above: Vec<Tensor<Act, 3>> = Vec::new();
    for top in (0..height).step_by(tiling.stride()) {
        let mut row: Vec<Tensor<Act, 3>> = Vec::new();
        for left in (0..width).step_by(tiling.stride()) {
            let part = cut(&z, [top, left], tiling.side).to_device(&device)?;
            let mut tile = vae::decode(weights, &part)?.to_device(&Device::Cpu)?;
            if let Some(above) = above.get(row.len()) {
                fade_from_above(&mut tile, above, overlap);
            }
            if let Some(left) = row.last() {
                fade_from_left(&mut tile, left, overlap);
            }
            // Whole: what the next tiles begin with, they write over.
            paste(&mut image, &tile, [SCALE * top, SCALE * left]);
            row.push(tile);
        }
        above = row;
    }
    Ok(image)
}

/// At most `side x side` latents from `[top, left]` on.
fn cut(z: &Tensor<Act, 3>, [top, left]: [usize; 2], side: usize) -> Tensor<Act, 3> {
    let [height, width, channels] = z.shape();
    let [rows, columns] = [side.min(height - top), side.min(width - left)];
    let lines = z.host().chunks(width * channels).skip(top).take(rows);
    let inside = left * channels..(left + columns) * channels;
    let data = lines.flat_map(|line| &line[inside.clone()]).copied().collect();
    Tensor::from_host([rows, columns, channels], data)
}

/// Writes `tile` over `image` from `[top, left]` on.
fn paste(image: &mut Tensor<Act, 3>, tile: &Tensor<Act, 3>, [top, left]: [usize; 2]) {
    let [_, width, channels] = image.shape();
    let [_, columns, _] = tile.shape();
    let inside = left * channels..(left + columns) * channels;
    let lines = image.host_mut().chunks_mut(width * channels).skip(top);
    for (line, tile) in lines.zip(tile.host().chunks(columns * channels)) {
        line[inside.clone()].copy_from_slice(tile);
    }
}

/// The first rows of `tile` rise from the last ones of `above`. At the edge of the picture a tile
/// may have fewer rows than the overlap.
fn fade_from_above(tile: &mut Tensor<Act, 3>, above: &Tensor<Act, 3>, overlap: usize) {
    let [rows, columns, channels] = tile.shape();
    let [rows_above, ..] = above.shape();
    let count = overlap.min(rows).min(rows_above);
    let line = columns * channels;
    let old = above.host()[(rows_above - count) * line..].chunks(line);
    for (index, (new, old)) in tile.host_mut().chunks_mut(line).zip(old).enumerate() {
        blend(new, old, index as f32 / count as f32);
    }
}

/// The first columns of `tile` rise from the last ones of `left`, which has as many rows.
fn fade_from_left(tile: &mut Tensor<Act, 3>, left: &Tensor<Act, 3>, overlap: usize) {
    let [_, columns, channels] = tile.shape();
    let [_, columns_left, _] = left.shape();
    let count = overlap.min(columns).min(columns_left);
    let lines = tile.host_mut().chunks_mut(columns * channels);
    for (new, old) in lines.zip(left.host().chunks(columns_left * channels)) {
        let old = old[(columns_left - count) * channels..].chunks(channels);
        for (index, (new, old)) in new.chunks_mut(channels).zip(old).enumerate() {
            blend(new, old, index as f32 / count as f32);
        }
    }
}

/// `new = old (1 - weight) + new weight`.
fn blend(new: &mut [f32], old: &[f32], weight: f32) {
    for (new, old) in new.iter_mut().zip(old) {
        *new = old * (1.0 - weight) + *new * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(shape: [usize; 2], value: f32) -> Tensor<Act, 3> {
        Tensor::from_host([shape[0], shape[1], 1], vec![value; shape[0] * shape[1]])
    }

    #[test]
    fn a_tile_fades_in_over_the_overlap_or_as_much_as_there_is() {
        let mut tile = flat([4, 2], 8.0);
        fade_from_above(&mut tile, &flat([5, 2], 0.0), 4);
        assert_eq!(tile.host(), [0.0, 0.0, 2.0, 2.0, 4.0, 4.0, 6.0, 6.0]);
        let mut tile = flat([1, 3], 8.0);
        fade_from_left(&mut tile, &flat([1, 2], 4.0), 5);
        assert_eq!(tile.host(), [4.0, 6.0, 8.0]);
    }

    #[test]
    fn pieces_are_cut_and_pasted_at_their_place() {
        let numbers: Vec<f32> = (0..12u8).map(f32::from).collect();
        let whole = Tensor::from_host([3, 4, 1], numbers);
        let part = cut(&whole, [1, 2], 3);
        assert_eq!((part.shape(), part.host()), ([2, 2, 1], &[6.0, 7.0, 10.0, 11.0][..]));
        let mut image = flat([3, 4], 0.0);
        paste(&mut image, &part, [0, 1]);
        assert_eq!(image.host()[..8], [0.0, 6.0, 7.0, 0.0, 0.0, 10.0, 11.0, 0.0]);
    }
}
