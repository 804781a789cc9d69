//! The number format e4m3: sign, 4 exponent bits with bias 7, 3 mantissa bits; no infinity, NaN only
//! 0x7f and 0xff (OCP 8-bit floating point specification, "E4M3"; PTX's `e4m3`).

use pulp::Arch;

/// The largest number.
pub const MAX: f32 = 448.0;

/// The number that a byte is. Without branches, so that loops over bytes become vectors.
#[must_use]
#[inline(always)]
pub fn to_f32(byte: u8) -> f32 {
    /// What f32's exponent is above e4m3's.
    const BIAS: u32 = (127 - 7) << 23;
    /// 2^-7: below it f32 has a leading one where e4m3 has none.
    const LEAST: f32 = 0.007_812_5;
    let magnitude = u32::from(byte & 0x7f);
    let normal = f32::from_bits((magnitude << 20) + BIAS);
    let value = if magnitude < 8 { 2.0 * (normal - LEAST) } else { normal };
    let value = if magnitude == 0x7f { f32::NAN } else { value };
    f32::from_bits(value.to_bits() | (u32::from(byte & 0x80) << 24))
}

/// `wide = to_f32(byte) * scale`.
///
/// # Panics
/// If there are fewer bytes: a bug of the caller.
pub fn widen(wide: &mut [f32], bytes: &[u8], scale: f32) {
    assert!(bytes.len() >= wide.len(), "{} bytes for {} numbers", bytes.len(), wide.len());
    Arch::new().dispatch(|| {
        for (wide, &byte) in wide.iter_mut().zip(bytes) {
            *wide = to_f32(byte) * scale;
        }
    });
}

/// `byte = from_f32(x / unit / scale)`; without units they are 1.
///
/// # Panics
/// If there are fewer numbers or units: a bug of the caller.
pub fn narrow(bytes: &mut [u8], x: &[f32], units: Option<&[f32]>, scale: f32) {
    assert!(x.len() >= bytes.len(), "{} numbers for {} bytes", x.len(), bytes.len());
    let units = units.map(|units| &units[..bytes.len()]);
    Arch::new().dispatch(|| match units {
        Some(units) => {
            for ((byte, x), unit) in bytes.iter_mut().zip(x).zip(units) {
                *byte = from_f32(x / unit / scale);
            }
        }
        None => {
            for (byte, x) in bytes.iter_mut().zip(x) {
                *byte = from_f32(x / scale);
            }
        }
    });
}

/// The nearest number, the even one of two as near; what is beyond the largest becomes the largest,
/// as PTX's `cvt.rn.satfinite.e4m3x2.f32` has it.
#[must_use]
#[inline(always)]
pub fn from_f32(value: f32) -> u8 {
    /// The least number with all its mantissa bits, as bits of f32.
    const NORMAL: u32 = 0x3c80_0000;
    /// f32's mantissa bits that e4m3 lacks.
    const CUT: u32 = 20;
    // Adding brings the last bit that stays to the end of the sum's mantissa: f32 rounds there.
    const SHIFT: f32 = 16_384.0;
    let sign = (value.to_bits() >> 24) & 0x80;
    let magnitude = value.abs().min(MAX);
    let bits = magnitude.to_bits();
    let below = (magnitude + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits());
    let half = (1 << (CUT - 1)) - 1 + ((bits >> CUT) & 1);
    let normal = ((bits + half) >> CUT).wrapping_sub((127 - 7) << 3);
    let rounded = if bits < NORMAL { below } else { normal };
    let rounded = if value.is_nan() { 0x7f } else { rounded };
    // At most 0x7f: the rest of the word is zeros.
    (sign | rounded).to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_rise_with_their_bits_between_the_known_ends() {
        let values: Vec<f32> = (0..0x7f).map(to_f32).collect();
        let ends = (values[0], values[1], values[8], values[0x7e]);
        assert_eq!(ends, (0.0, 2.0_f32.powi(-9), 2.0_f32.powi(-6), MAX));
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
        assert!((0..=0x7e).all(|byte| to_f32(byte | 0x80).to_bits() == (-to_f32(byte)).to_bits()));
    }

    #[test]
    fn every_number_and_every_middle_rounds_to_the_nearest_and_even() {
        for low in 0..0x7e_u8 {
            let (value, next) = (to_f32(low), to_f32(low + 1));
            let middle = f32::midpoint(value, next);
            let even = if low % 2 == 0 { low } else { low + 1 };
            for (x, byte) in [
                (value, low),
                (middle.next_down(), low),
                (middle, even),
                (middle.next_up(), low + 1),
            ] {
                assert_eq!(from_f32(x), byte, "{x:e}");
                assert_eq!(from_f32(-x), byte | 0x80, "-{x:e}");
            }
        }
        assert_eq!([448.0, 464.0, 1e30, f32::INFINITY].map(from_f32), [0x7e; 4]);
        assert_eq!([f32::NEG_INFINITY, -0.0, 1e-30].map(from_f32), [0xfe, 0x80, 0]);
        assert!(to_f32(from_f32(f32::NAN)).is_nan());
    }
}
