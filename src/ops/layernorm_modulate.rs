//! `out = LayerNorm(x) * (1 + scale) + shift`, no affine parameters, biased variance.
//!
//! Spec flux 3.4 steps 1 and 8; each segment of rows has its own vectors.

use std::ops::Range;

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::Output;
use crate::error::Result;
use crate::ops::ModulationVector;
use crate::ops::cpu;
use crate::ops::cpu::quantize::with_output;
use crate::ops::cuda;
use crate::ops::expect_cover;
use crate::ops::expect_shape;

const OP: &str = "layernorm_modulate";

/// eps of every LayerNorm in the transformer.
pub const EPS: f64 = 1e-6;

/// A range of rows and its modulation.
#[derive(Debug, Clone)]
pub struct ModulateSegment<'a> {
    /// Rows of `x` and `out`.
    pub rows: Range<usize>,
    /// `[D]`.
    pub shift: ModulationVector<'a>,
    /// `[D]`.
    pub scale: ModulationVector<'a>,
}

/// `out [S, D]` from `x [S, D]`; the segments cover the rows in order.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn layernorm_modulate<'out>(
    out: impl Into<Output<'out>>,
    x: Matrix<'_, Act>,
    segments: &[ModulateSegment<'_>],
) -> Result<()> {
    let mut out = out.into();
    let [seq, hidden] = x.shape();
    expect_shape(OP, "out", out.shape(), [seq, hidden])?;
    expect_cover(OP, segments.iter().map(|segment| &segment.rows), seq)?;
    for segment in segments {
        segment.shift.check(OP, hidden)?;
        segment.scale.check(OP, hidden)?;
    }
    if let Device::Cuda(cuda) = out.device() {
        return cuda::layernorm_modulate::layernorm_modulate(&cuda, &out, x, segments);
    }
    for segment in segments {
        let rows = || segment.rows.clone();
        with_output(out.reborrow().rows(rows()), |out| {
            cpu::layernorm_modulate::layernorm_modulate(out, x.rows(rows()), segment);
        });
    }
    Ok(())
}
