//! q, k and v of an attention in e4m3, laid out for tensor cores.

use crate::device::Device;
use crate::device::Tensor;
use crate::device::e4m3;
use crate::error::Result;

/// Keys that are stored in an order of their own: what a thread's probabilities are is then what it
/// multiplies. Position 2 g + b holds key g + 8 b.
pub const KEY_GROUP: usize = 16;
/// The keys of `v` are padded with zeros to a multiple of this.
pub const KEY_PADDING: usize = 128;

/// q, k and v of S tokens and H heads of Dh.
#[derive(Debug)]
pub struct QuantizedQkv {
    /// `[S, 2, H, Dh]` in e4m3: q, then k.
    pub qk: Tensor<u8, 4>,
    /// What q and k are multiplied by: one scale each, since their norm bounds them.
    pub qk_scales: [f32; 2],
    /// `[H, Dh, S padded]` in e4m3, in units of channels, keys in groups of [`KEY_GROUP`].
    pub v: Tensor<u8, 3>,
}

impl QuantizedQkv {
    /// Takes the scales of q and k from what no element of them exceeds.
    pub(crate) fn set_bounds(&mut self, bounds: [f32; 2]) {
        self.qk_scales = bounds.map(|bound| bound / e4m3::MAX);
    }

    /// For an op to write.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub fn empty(device: &Device, [seq, heads, head_dim]: [usize; 3]) -> Result<Self> {
        let padded = seq.next_multiple_of(KEY_PADDING);
        Ok(Self {
            qk: Tensor::empty(device, [seq, 2, heads, head_dim])?,
            qk_scales: [1.0; 2],
            v: Tensor::empty(device, [heads, head_dim, padded])?,
        })
    }
}

/// Where key `key` lies in a row of `v`.
#[must_use]
pub fn key_position(key: usize) -> usize {
    let (group, within) = (key / KEY_GROUP, key % KEY_GROUP);
    group * KEY_GROUP + 2 * (within % 8) + within / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_holds_each_key_once() {
        let positions: Vec<usize> = (32..48).map(key_position).collect();
        assert_eq!(positions[..3], [32, 34, 36]);
        assert_eq!(positions[8], 33);
        let mut sorted = positions;
        sorted.sort_unstable();
        assert_eq!(sorted, (32..48).collect::<Vec<_>>());
    }
}
