//! Latents to image tokens and back: 2 x 2 pixels of all channels make one token.
//!
//! `packed [y (w/2) + x, 4 c + 2 dy + dx] = latents [c, 2 y + dy, 2 x + dx]`; latents `[C, h, w]`,
//! packed `[h/2 w/2, 4 C]`. Source: `FluxPipeline._pack_latents` of diffusers 0.42.
//! Oracle: `cpu/pack.rs`.

use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::expect_shape;

const OP: &str = "pack";

/// `out [h/2 * w/2, 4 C]` from `latents [C, h, w]`.
///
/// # Errors
/// [`Error::Shape`] if `h` or `w` is odd, or `out` does not fit.
pub fn pack(out: &mut Tensor<f32, 2>, latents: &Tensor<f32, 3>) -> Result<()> {
    let shape = latents.shape();
    expect_shape(OP, "out", out.shape(), packed_shape(shape)?)?;
    cpu::pack::pack(out.host_mut(), latents.host(), shape);
    Ok(())
}

/// `out [C, h, w]` from `packed [h/2 * w/2, 4 C]`: the inverse of [`pack`].
///
/// # Errors
/// [`Error::Shape`] if `h` or `w` is odd, or `packed` does not fit.
pub fn unpack(out: &mut Tensor<f32, 3>, packed: &Tensor<f32, 2>) -> Result<()> {
    let shape = out.shape();
    expect_shape(OP, "packed", packed.shape(), packed_shape(shape)?)?;
    cpu::pack::unpack(out.host_mut(), packed.host(), shape);
    Ok(())
}

/// The packed shape of latents `[C, h, w]`.
///
/// # Errors
/// [`Error::Shape`] if `h` or `w` is odd.
pub fn packed_shape([channels, height, width]: [usize; 3]) -> Result<[usize; 2]> {
    if height.is_multiple_of(2) && width.is_multiple_of(2) {
        return Ok([height / 2 * (width / 2), 4 * channels]);
    }
    Err(Error::Shape {
        op: OP,
        tensor: "latents",
        expected: "an even height and width".to_owned(),
        actual: format!("{:?}", [channels, height, width]),
    })
}
