//! The number format e4m3: sign, 4 exponent bits with bias 7, 3 mantissa bits; no infinity, NaN only
//! 0x7f and 0xff (OCP 8-bit floating point specification, "E4M3"; PTX's `e4m3`).

/// The largest number.
pub const MAX: f32 = 448.0;

/// The number that a byte is.
#[must_use]
pub fn to_f32(byte: u8) -> f32 {
    let magnitude = byte & 0x7f;
    if magnitude == 0x7f {
        return f32::NAN;
    }
    let (exponent, mantissa) = (i32::from(magnitude >> 3), f32::from(magnitude & 7));
    let value = match exponent {
        0 => mantissa * 2.0_f32.powi(-9),
        _ => (8.0 + mantissa) * 2.0_f32.powi(exponent - 10),
    };
    if byte & 0x80 == 0 { value } else { -value }
}

/// The nearest number, the even one of two as near; what is beyond the largest becomes the largest,
/// as PTX's `cvt.rn.satfinite.e4m3x2.f32` has it.
#[must_use]
pub fn from_f32(value: f32) -> u8 {
    /// The least number with all its mantissa bits, as bits of f32.
    const NORMAL: u32 = 0x3c80_0000;
    /// f32's mantissa bits that e4m3 lacks.
    const CUT: u32 = 20;
    let bits = value.to_bits();
    let sign = u8::from(bits >> 31 == 1) << 7;
    let magnitude = value.abs().min(MAX);
    if value.is_nan() {
        return sign | 0x7f;
    }
    let bits = magnitude.to_bits();
    let rounded = if bits < NORMAL {
        // Adding brings the last bit that stays to the end of the sum's mantissa: f32 rounds there.
        const SHIFT: f32 = 16_384.0;
        (magnitude + SHIFT).to_bits() - SHIFT.to_bits()
    } else {
        let half = (1 << (CUT - 1)) - 1 + ((bits >> CUT) & 1);
        ((bits + half) >> CUT) - ((127 - 7) << 3)
    };
    // At most 0x7e, the largest number.
    sign | rounded.to_le_bytes()[0]
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
