//! The attention inputs of a transformer block: `q, k, v = a W^T + b`, RMSNorm of q and k over the
//! head, rotary positions, stored as one `[S, 3, H, Dh]` buffer; in a single block the further
//! columns of the same product are the MLP's hidden layer, `GELU(a W^T + b)`.
//!
//! Spec flux 3.2, 3.4 steps 2-4 and 3.5 step 2. On CUDA it is a `gemm` with another epilogue.

use std::ops::Range;

use crate::device::Act;
use crate::device::Device;
use crate::device::Input;
use crate::device::MatrixMut;
use crate::device::Output;
use crate::device::QuantizedQkv;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cpu::quantize::with_input;
use crate::ops::cpu::quantize::with_output;
use crate::ops::cuda;
use crate::ops::expect;
use crate::ops::expect_cover;
use crate::ops::expect_shape;
use crate::ops::gemm::Linear;
use crate::ops::gemm::expect_linear;
use crate::ops::quantize_qkv::expect_quantized;

const OP: &str = "gemm_qkv";

/// eps of the q and k RMSNorm, fixed in every FLUX.1 model.
pub const QK_NORM_EPS: f64 = 1e-6;

/// A range of rows and its weights.
#[derive(Debug, Clone)]
pub struct QkvSegment<'a> {
    /// Rows of `a` and of the outputs.
    pub rows: Range<usize>,
    /// `[3 H Dh + M, K]`: q, k, v and MLP rows; M is 0 in a double block.
    pub linear: &'a Linear,
    /// `[Dh]`, shared by all heads.
    pub q_norm: &'a Tensor<f32, 1>,
    /// `[Dh]`, shared by all heads.
    pub k_norm: &'a Tensor<f32, 1>,
}

/// Where q, k and v go.
#[derive(Debug)]
pub enum QkvOutput<'a> {
    /// `[S, 3, H, Dh]`.
    Act(&'a mut Tensor<Act, 4>),
    /// In e4m3, as [`quantize_qkv()`](crate::ops::quantize_qkv::quantize_qkv) lays it out.
    Fp8 {
        /// What is written.
        out: &'a mut QuantizedQkv,
        /// `[S, 3, H, Dh]`, where a kernel that cannot quantise by itself leaves what is quantised then.
        staging: &'a mut Tensor<Act, 4>,
        /// Of q and of k.
        bounds: [f32; 2],
        /// `[H Dh]`, powers of two.
        v_units: &'a Tensor<f32, 1>,
    },
}

impl<'a> From<&'a mut Tensor<Act, 4>> for QkvOutput<'a> {
    fn from(qkv: &'a mut Tensor<Act, 4>) -> Self {
        Self::Act(qkv)
    }
}

/// `qkv` and, when given, `mlp [S, M]` from `a [S, K]`; `rope` is
/// `[S, Dh / 2, 2]`, (cos, sin) of each pair of head dimensions.
///
/// # Errors
/// As [`gemm()`](crate::ops::gemm::gemm).
pub fn gemm_qkv<'a, 'out>(
    qkv: impl Into<QkvOutput<'out>>,
    mut mlp: Option<Output<'_>>,
    a: impl Into<Input<'a>>,
    segments: &[QkvSegment<'_>],
    rope: &Tensor<f32, 3>,
) -> Result<()> {
    let (a, out) = (a.into(), qkv.into());
    let (qkv, fp8) = match out {
        QkvOutput::Act(qkv) => (qkv, None),
        QkvOutput::Fp8 { out, staging, bounds, v_units } => {
            out.set_bounds(bounds);
            (staging, Some((out, v_units)))
        }
    };
    let [seq, three, heads, head_dim] = qkv.shape();
    let [rows, k] = a.shape();
    expect_shape(OP, "qkv", [rows, 3], [seq, three])?;
    expect(OP, "qkv", head_dim.is_multiple_of(2), || {
        ("an even head size".into(), format!("{head_dim}"))
    })?;
    expect_shape(OP, "rope", rope.shape(), [seq, head_dim / 2, 2])?;
    let mlp_width = mlp.as_ref().map_or(0, |mlp| mlp.shape()[1]);
    if let Some(mlp) = &mlp {
        expect_shape(OP, "mlp", mlp.shape(), [seq, mlp_width])?;
    }
    expect_cover(OP, segments.iter().map(|segment| &segment.rows), seq)?;
    for segment in segments {
        expect_linear(OP, segment.linear, 3 * heads * head_dim + mlp_width, k)?;
        expect_shape(OP, "q_norm", segment.q_norm.shape(), [head_dim])?;
        expect_shape(OP, "k_norm", segment.k_norm.shape(), [head_dim])?;
    }
    if let Some((out, v_units)) = &fp8 {
        expect_quantized(OP, out, qkv, v_units)?;
    }
    if let Device::Cuda(cuda) = qkv.device() {
        let fp8 = fp8.as_ref().map(|(out, v_units)| (&**out, *v_units));
        return cuda::gemm_qkv::gemm_qkv(&cuda, qkv, fp8, mlp.as_ref(), a, segments, rope);
    }
    let width = 3 * heads * head_dim;
    let mut rows_out = MatrixMut::<Act>::new(qkv.host_mut(), seq, width);
    for segment in segments {
        let rows = || segment.rows.clone();
        with_input(&a.rows(rows()), |a| {
            let out = rows_out.reborrow().rows(rows());
            cpu::gemm_qkv::gemm_qkv(out, a, segment, rope, heads);
            if let Some(mlp) = &mut mlp {
                with_output(mlp.reborrow().rows(rows()), |out| {
                    cpu::gemm_qkv::mlp_up(out, a, segment, width);
                });
            }
        });
    }
    if let Some((out, v_units)) = fp8 {
        cpu::quantize_qkv::quantize_qkv(out, qkv, v_units);
    }
    Ok(())
}
