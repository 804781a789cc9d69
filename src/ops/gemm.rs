//! Linear layers with their epilogue: `out = activation(residual + gate * (a W^T + bias))`.
//!
//! One call may multiply several row ranges by weights of their own (img and txt of a double
//! block): on CUDA that is one grouped launch, whose tiles never cross a segment.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use crate::device::Act;
use crate::device::Device;
use crate::device::Input;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Output;
use crate::device::Quantized;
use crate::device::Tensor;
use crate::device::kept::Kept;
use crate::error::Result;
use crate::ops::ModulationVector;
use crate::ops::cpu;
use crate::ops::cpu::quantize::with_input;
use crate::ops::cpu::quantize::with_output;
use crate::ops::cuda;
use crate::ops::expect_cover;
use crate::ops::expect_shape;

const OP: &str = "gemm";

/// A weight matrix in the precision it is kept in.
#[derive(Debug)]
pub enum Weight {
    /// f32.
    F32(Tensor<f32, 2>),
    /// bf16, widened to f32 where it is multiplied.
    Bf16(Tensor<bf16, 2>),
    /// e4m3 with a scale for each output channel.
    Fp8(Quantized),
    /// Some of another's rows and columns, for a narrower layer.
    Part(WeightPart),
}

/// Some rows and columns of a matrix, whose bytes it shares.
#[derive(Debug, Clone)]
pub struct WeightPart {
    /// The whole, which is no part itself.
    pub of: Arc<Weight>,
    /// Output channels.
    pub rows: Kept,
    /// Input channels.
    pub columns: Kept,
}

impl Weight {
    /// Where the elements live.
    #[must_use]
    pub fn device(&self) -> Device {
        match self {
            Self::F32(tensor) => tensor.device(),
            Self::Bf16(tensor) => tensor.device(),
            Self::Fp8(quantized) => quantized.view().values.device(),
            Self::Part(part) => part.of.device(),
        }
    }

    /// `[N, K]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::F32(tensor) => tensor.shape(),
            Self::Bf16(tensor) => tensor.shape(),
            Self::Fp8(quantized) => quantized.view().shape(),
            Self::Part(part) => [part.rows.count(), part.columns.count()],
        }
    }
}

/// A linear layer: `y = x W^T + b`.
#[derive(Debug)]
pub struct Linear {
    /// `[N, K]`.
    pub weight: Weight,
    /// `[N]`.
    pub bias: Option<Tensor<f32, 1>>,
}

/// What is applied to a finished output element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU in its tanh form, of the transformer and T5.
    GeluTanh,
    /// `x * sigmoid(1.702 x)`, of CLIP.
    QuickGelu,
}

/// A range of rows and what it is multiplied by.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    /// Rows of `a`, `residual` and `out`.
    pub rows: Range<usize>,
    /// `[N, K]`.
    pub linear: &'a Linear,
    /// `[N]`; multiplies the finished product, bias included.
    pub gate: Option<ModulationVector<'a>>,
}

/// What a finished output has become since an earlier tensor: the step cache keeps it.
#[derive(Debug)]
pub struct Difference<'a> {
    /// `[M, N]`: receives `out - from`.
    pub out: MatrixMut<'a, Act>,
    /// `[M, N]`.
    pub from: Matrix<'a, Act>,
}

/// A single segment over all rows, with no gate.
#[must_use]
pub fn whole(linear: &Linear, rows: usize) -> [Segment<'_>; 1] {
    [Segment { rows: 0..rows, linear, gate: None }]
}

/// Fails unless `linear` maps K columns to N.
pub(crate) fn expect_linear(op: &'static str, linear: &Linear, n: usize, k: usize) -> Result<()> {
    expect_shape(op, "weight", linear.weight.shape(), [n, k])?;
    linear.bias.as_ref().map_or(Ok(()), |bias| expect_shape(op, "bias", bias.shape(), [n]))
}

/// `out [M, N] = activation(residual [M, N] + gate [N] * (a [M, K] W [N, K]^T + bias [N]))`.
///
/// The segments cover the rows of `a` in order. `out` is never `residual`: the cache needs the old
/// stream. A quantised `out` is quantised from the finished f32.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together, [`crate::Error::Device`] where a GPU
/// has no kernel for e4m3.
pub fn gemm<'out, 'a>(
    out: impl Into<Output<'out>>,
    a: impl Into<Input<'a>>,
    residual: Option<Matrix<'_, Act>>,
    segments: &[Segment<'_>],
    activation: Activation,
) -> Result<()> {
    multiply(out.into(), None, a.into(), residual, segments, activation)
}

/// As [`gemm()`] without an activation, and `difference.out = out - difference.from`, of `out` as it is
/// stored.
///
/// # Errors
/// As [`gemm()`].
pub fn gemm_with_difference<'a>(
    mut out: MatrixMut<'_, Act>,
    difference: Difference<'_>,
    a: impl Into<Input<'a>>,
    residual: Option<Matrix<'_, Act>>,
    segments: &[Segment<'_>],
) -> Result<()> {
    let a = a.into();
    let Difference { out: change, from } = &difference;
    expect_shape(OP, "difference", change.shape(), out.shape())?;
    expect_shape(OP, "difference's start", from.shape(), out.shape())?;
    if matches!(out.device(), Device::Cuda(_)) {
        return multiply(
            Output::Act(out),
            Some(difference),
            a,
            residual,
            segments,
            Activation::None,
        );
    }
    multiply(Output::Act(out.reborrow()), None, a, residual, segments, Activation::None)?;
    let Difference { out: mut change, from } = difference;
    cpu::add_scaled::add_scaled(&mut change, out.as_ref(), from, -1.0);
    Ok(())
}

fn multiply(
    mut out: Output<'_>,
    difference: Option<Difference<'_>>,
    a: Input<'_>,
    residual: Option<Matrix<'_, Act>>,
    segments: &[Segment<'_>],
    activation: Activation,
) -> Result<()> {
    let [m, k] = a.shape();
    let [_, n] = out.shape();
    expect_shape(OP, "out", out.shape(), [m, n])?;
    if let Some(residual) = &residual {
        expect_shape(OP, "residual", residual.shape(), [m, n])?;
    }
    expect_cover(OP, segments.iter().map(|segment| &segment.rows), m)?;
    for segment in segments {
        expect_linear(OP, segment.linear, n, k)?;
        if let Some(gate) = &segment.gate {
            gate.check(OP, n)?;
        }
    }
    if let Device::Cuda(cuda) = out.device() {
        return cuda::gemm::gemm(&cuda, &out, difference, a, residual, segments, activation);
    }
    for segment in segments {
        let rows = || segment.rows.clone();
        let residual = residual.map(|residual| residual.rows(rows()));
        with_output(out.reborrow().rows(rows()), |out| {
            with_input(&a.rows(rows()), |a| {
                cpu::gemm::gemm(out, a, residual, segment, activation);
            });
        });
    }
    Ok(())
}
