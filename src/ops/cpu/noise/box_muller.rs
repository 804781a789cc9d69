//! Box-Muller in f32 with exactly the roundings of `PyTorch`'s AVX2 code
//! (`normal_fill_16_AVX2` over `avx_mathfun.h`, Cephes polynomials with fused multiply-adds).
//!
//! `ln`, `sin` and `cos` of the platform differ from these in the last bits of 40 % of the values.

use std::f32::consts::TAU;

/// `r cos(t)` and `r sin(t)` with `r = sqrt(-2 ln(1 - radius_uniform))`, `t = 2 pi angle_uniform`;
/// both uniforms in [0, 1).
pub(super) fn avx2(radius_uniform: f32, angle_uniform: f32) -> [f32; 2] {
    let radius = (-2.0 * ln(1.0 - radius_uniform)).sqrt();
    let [sin, cos] = sin_cos(TAU * angle_uniform);
    [radius * cos, radius * sin]
}

/// Natural logarithm of a normal number in (0, 1].
fn ln(a: f32) -> f32 {
    // a = m * 2^e with m in [0.5, 1).
    let bits = a.to_bits();
    let mut e = (bits >> 23) as f32 - 126.0;
    let m = f32::from_bits(bits & 0x007f_ffff | 0x3f00_0000);
    let mut x = m - 1.0;
    // 0x3f3504f3 is sqrt(0.5).
    if m < f32::from_bits(0x3f35_04f3) {
        e -= 1.0;
        x += m;
    }
    let z = x * x;
    let mut y = 7.037_683_6e-2_f32;
    for coefficient in [
        -1.151_461e-1,
        1.167_699_87e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        y = y.mul_add(x, coefficient);
    }
    // ln 2 in two parts: the first has few bits, so that e times it is exact.
    y = (y * x).mul_add(z, e * -2.121_944_4e-4);
    y -= z * 0.5;
    (x + y) + e * 0.693_359_4
}

/// Sine and cosine of an angle in [0, 2 pi].
#[expect(clippy::cast_possible_truncation, reason = "the octant is at most 8")]
fn sin_cos(angle: f32) -> [f32; 2] {
    let octant = ((angle * 1.273_239_5) as i32 + 1) & !1;
    let k = octant as f32;
    // pi / 4 in three parts.
    let mut x = k.mul_add(-0.785_156_25, angle);
    x = k.mul_add(-2.418_756_5e-4, x);
    x = k.mul_add(-3.774_895e-8, x);
    let z = x * x;
    let mut even = 2.443_315_7e-5_f32.mul_add(z, -1.388_731_6e-3).mul_add(z, 4.166_664_6e-2) * z;
    even = even.mul_add(z, z * -0.5) + 1.0;
    let odd = (-1.951_529_6e-4_f32).mul_add(z, 8.332_161e-3).mul_add(z, -1.666_665_5e-1) * z;
    let odd = odd.mul_add(x, x);
    let [sin, cos] = if octant & 2 == 0 { [odd, even] } else { [even, odd] };
    let sin = if octant & 4 != 0 { -sin } else { sin };
    let cos = if (octant - 2) & 4 == 0 { -cos } else { cos };
    [sin, cos]
}
