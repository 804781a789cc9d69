//! Latents to image tokens and back: 2 x 2 pixels of all channels make one token.
//!
//! `packed [y (w/2) + x, 4 c + 2 dy + dx] = latents [c, 2 y + dy, 2 x + dx]`. Noise is drawn as
//! `[C, h, w]`; the decoder takes `[h, w, C]`, so unpacking goes there, with the decoder's
//! `latents / scaling + shift` on the way. Source: `FluxPipeline._pack_latents` and
//! `_unpack_latents` of diffusers 0.42. Oracle: `cpu/pack.rs`.

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "pack";

/// `out [h/2 * w/2, 4 C]` from `latents [C, h, w]`.
///
/// # Errors
/// [`Error::Shape`] if `h` or `w` is odd, or `out` does not fit.
pub fn pack(out: &mut Tensor<Act, 2>, latents: &Tensor<f32, 3>) -> Result<()> {
    let shape = latents.shape();
    expect_shape(OP, "out", out.shape(), packed_shape(shape)?)?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::pack::pack(&cuda, out, latents);
    }
    cpu::pack::pack(out.host_mut(), latents.host(), shape);
    Ok(())
}

/// `out [h, w, C] = latents / scaling + shift`, the latents given as `packed [h/2 * w/2, 4 C]`.
///
/// # Errors
/// [`Error::Shape`] if `h` or `w` is odd, or `packed` does not fit.
pub fn unpack(
    out: &mut Tensor<Act, 3>,
    packed: &Tensor<Act, 2>,
    scaling: f32,
    shift: f32,
) -> Result<()> {
    let [height, width, channels] = out.shape();
    let shape = [channels, height, width];
    expect_shape(OP, "packed", packed.shape(), packed_shape(shape)?)?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::pack::unpack(&cuda, out, packed, scaling, shift);
    }
    cpu::pack::unpack(out.host_mut(), packed.host(), shape, |value| value / scaling + shift);
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
