//! Number formats: what checkpoints store, what the program computes with, and the way between.

use bytemuck::Pod;
use half::bf16;
use half::f16;
use rayon::prelude::*;
use safetensors::Dtype;

use crate::device::e4m3;

// Elements are little-endian in the file; the copies below rely on memory being so too.
const _: () = assert!(cfg!(target_endian = "little"));

/// Elements converted by one task: some 100 microseconds of work.
const CHUNK: usize = 1 << 17;

/// The form in which matrices are kept; vectors are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightDtype {
    /// f32.
    F32,
    /// bf16, rounded to nearest even where the file holds more.
    Bf16,
}

impl WeightDtype {
    /// Bytes of an element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// The formats of weights that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
    F8E4M3,
    F8E5M2,
}

impl Stored {
    /// What messages call these formats.
    pub(crate) const NAMES: &str = "F32, F16, BF16, F8_E4M3 or F8_E5M2";

    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F8_E4M3 => Some(Self::F8E4M3),
            Dtype::F8_E5M2 => Some(Self::F8E5M2),
            _ => None,
        }
    }

    /// Bytes of an element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::F8E4M3 | Self::F8E5M2 => 1,
        }
    }

    pub(crate) fn is_fp8(self) -> bool {
        self.size() == 1
    }
}

/// A format to convert to.
pub(crate) trait Target: Pod + Default + Send + Sync {
    /// The stored format whose bytes can be copied.
    const SAME: Stored;
    /// Rounds to nearest even.
    fn of_f32(value: f32) -> Self;
}

impl Target for f32 {
    const SAME: Stored = Stored::F32;
    fn of_f32(value: f32) -> Self {
        value
    }
}

impl Target for bf16 {
    const SAME: Stored = Stored::Bf16;
    fn of_f32(value: f32) -> Self {
        Self::from_f32(value)
    }
}

/// Fills `out` with the elements stored in `bytes` times `scale`, on all cores.
/// `bytes` may start anywhere; it must hold exactly as many elements as `out`.
pub(crate) fn convert<T: Target>(out: &mut [T], bytes: &[u8], stored: Stored, scale: f32) {
    debug_assert_eq!(bytes.len(), out.len() * stored.size(), "caller cut the bytes to fit");
    #[expect(clippy::float_cmp, reason = "exactly 1 means that there is nothing to multiply")]
    let unscaled = scale == 1.0;
    let fp8 = stored.is_fp8().then(|| fp8_table::<T>(stored, scale));
    let chunks = bytes.par_chunks(CHUNK * stored.size());
    out.par_chunks_mut(CHUNK).zip(chunks).for_each(|(out, bytes)| match (stored, &fp8) {
        _ if stored == T::SAME && unscaled => bytemuck::cast_slice_mut(out).copy_from_slice(bytes),
        (_, Some(table)) => {
            for (out, byte) in out.iter_mut().zip(bytes) {
                *out = table[usize::from(*byte)];
            }
        }
        (Stored::F16, _) => each(out, bytes, |b: [u8; 2]| f16::from_le_bytes(b).to_f32() * scale),
        (Stored::Bf16, _) => each(out, bytes, |b: [u8; 2]| bf16::from_le_bytes(b).to_f32() * scale),
        _ => each(out, bytes, |b: [u8; 4]| f32::from_le_bytes(b) * scale),
    });
}

fn each<T: Target, const N: usize>(out: &mut [T], bytes: &[u8], value: impl Fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = T::of_f32(value(*bytes));
    }
}

/// The value of every byte, scaled and rounded once.
fn fp8_table<T: Target>(stored: Stored, scale: f32) -> Vec<T> {
    let decode = if stored == Stored::F8E5M2 { e5m2 } else { e4m3::to_f32 };
    (0..=u8::MAX).map(|byte| T::of_f32(decode(byte) * scale)).collect()
}

/// The upper half of an f16: sign, 5 exponent bits with bias 15, 2 mantissa bits.
fn e5m2(byte: u8) -> f32 {
    f16::from_bits(u16::from(byte) << 8).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than two chunks, and bytes that start at an odd address.
    #[test]
    fn long_and_misaligned_tensors_convert_element_by_element() {
        let len = 2 * CHUNK + 3;
        let value = |i: usize| f16::from_bits(u16::try_from(i % 0x7c00).unwrap());
        let mut bytes = vec![0];
        bytes.extend((0..len).flat_map(|i| value(i).to_le_bytes()));
        let mut out = vec![bf16::ZERO; len];
        convert(&mut out, &bytes[1..], Stored::F16, 1.0);
        assert!((0..len).all(|i| out[i] == bf16::from_f32(value(i).to_f32())));

        let mut bytes = vec![0; 3];
        bytes.extend((0..len).flat_map(|i| f32::from(value(i)).to_le_bytes()));
        let mut out = vec![0.0; len];
        convert(&mut out, &bytes[3..], Stored::F32, 1.0);
        assert!((0..len).all(|i| out[i].to_bits() == value(i).to_f32().to_bits()));
        convert(&mut out, &bytes[3..], Stored::F32, 0.5);
        assert!((0..len).all(|i| out[i].to_bits() == (value(i).to_f32() * 0.5).to_bits()));
    }

    #[test]
    fn bf16_is_copied_bit_for_bit_and_rounded_to_nearest_even() {
        let bytes: Vec<u8> =
            [0x7fc1_u16, 0xff80, 0x0001].iter().flat_map(|b| b.to_le_bytes()).collect();
        let mut out = vec![bf16::ZERO; 3];
        convert(&mut out, &bytes, Stored::Bf16, 1.0);
        assert_eq!(
            out.iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
            [0x7fc1, 0xff80, 1]
        );
        // Halfway between two: to the even one.
        let halfway = [f32::from_bits(0x3f80_8000), f32::from_bits(0x3f81_8000)];
        let bytes: Vec<u8> = halfway.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut out = vec![bf16::ZERO; 2];
        convert(&mut out, &bytes, Stored::F32, 1.0);
        assert_eq!(out.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), [0x3f80, 0x3f82]);
    }

    #[test]
    fn e5m2_values_rise_with_their_bits_between_the_known_ends() {
        let values: Vec<f32> = (0..0x7c).map(e5m2).collect();
        assert_eq!(
            (values[1], values[4], values[0x7b]),
            (2.0_f32.powi(-16), 2.0_f32.powi(-14), 57344.0)
        );
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
