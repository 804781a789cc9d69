//! Oracle of `to_rgb8`.

use half::bf16;

use crate::ops::to_rgb8::PixelRounding;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value lies in 0..=255; NaN casts to 0"
)]
pub(in crate::ops) fn to_rgb8(out: &mut [u8], image: &[f32], rounding: PixelRounding) {
    for (out, &value) in out.iter_mut().zip(image) {
        let unit = match rounding {
            PixelRounding::F32 => value * 0.5 + 0.5,
            PixelRounding::DiffusersBf16 => round(round(round(value) * 0.5) + 0.5),
        };
        *out = (unit.clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    }
}

fn round(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}
