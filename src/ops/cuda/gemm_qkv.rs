//! Launcher of `gemm_qkv`: one launch for one or two segments.

mod fp8;
mod sm89;
mod sm90;

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Input;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Output;
use crate::device::QuantizedQkv;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::expect_aligned;
use crate::ops::cuda::expect_multiple_of_8;
use crate::ops::cuda::gemm::address_or_null;
use crate::ops::cuda::gemm::bf16_weight;
use crate::ops::cuda::gemm::layout::Columns;
use crate::ops::cuda::gemm::layout::part_rows;
use crate::ops::cuda::gemm::layout::whole;
use crate::ops::cuda::gemm::pair;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::quantize::through_staging;
use crate::ops::cuda::quantize_qkv::quantize_qkv;
use crate::ops::cuda::tile;
use crate::ops::cuda::tile::Tile;
use crate::ops::expect;
use crate::ops::gemm_qkv::QK_NORM_EPS;
use crate::ops::gemm_qkv::QkvSegment;

const OP: &str = "gemm_qkv";

#[expect(clippy::cast_possible_truncation, reason = "eps is an f32 in the reference too")]
const EPS: f32 = QK_NORM_EPS as f32;

kernel_params!(Params, 160, {
    0 qkv: u64,
    8 mlp: u64,
    16 a: u64,
    24 weight: [u64; 2],
    40 bias: [u64; 2],
    56 q_norm: [u64; 2],
    72 k_norm: [u64; 2],
    88 rope: u64,
    96 rows: i32,
    100 split: i32,
    104 k: i32,
    108 a_stride: i32,
    112 weight_stride: i32,
    116 heads: i32,
    120 head_dim: i32,
    124 mlp_width: i32,
    128 mlp_stride: i32,
    132 part_row: [i32; 4],
    148 raster_rows: i32,
    152 round_like_diffusers: i32,
    156 eps: f32,
});

/// The tiles whose epilogue holds a whole head.
fn suits(head_dim: usize) -> &'static [Tile] {
    if head_dim <= 64 {
        &[Tile::T64x64, Tile::T128x128, Tile::T128x256]
    } else {
        &[Tile::T64x128, Tile::T128x128, Tile::T128x256]
    }
}

/// Checked inputs: what every kernel of the op needs.
struct Inputs<'a> {
    /// `[S, 3 H Dh]`.
    qkv: Matrix<'a, Act>,
    /// `[S, M]`, of a single block.
    mlp: Option<Matrix<'a, Act>>,
    a: Matrix<'a, Act>,
    head_dim: usize,
    /// Rows of the first segment.
    split: usize,
    weight: [u64; 2],
    rows: WeightRows,
    bias: [u64; 2],
    q_norm: [u64; 2],
    k_norm: [u64; 2],
    rope: u64,
    eps: f32,
}

/// How the rows of q, k and v lie in both weights of a product.
#[derive(Debug, Clone, Copy)]
struct WeightRows {
    /// From q's first to k's, from k's to v's, and from v's to what lies behind.
    part_rows: usize,
    /// Elements from one row to the next.
    stride: usize,
}

impl WeightRows {
    /// Of a product that gives q, k and v `part` columns each.
    fn of(pair: [&QkvSegment<'_>; 2], part: usize) -> Result<Self> {
        let weights = pair.map(|segment| &segment.linear.weight);
        let Columns { stride, gap, .. } = Columns::of(OP, weights)?;
        expect(OP, "weight", gap == 0, || ("columns without a gap".into(), gap.to_string()))?;
        Ok(Self { part_rows: part_rows(OP, weights, part)?, stride })
    }

    /// Where a weight's rows behind those of v begin, whose elements have so many bytes.
    fn behind(&self, weight: u64, bytes: usize) -> u64 {
        weight + (3 * self.part_rows * self.stride * bytes) as u64
    }
}

/// Where the bias behind that of q, k and v, of `part` columns each, begins: biases have no gaps.
fn behind_bias(bias: u64, part: usize) -> u64 {
    if bias == 0 { 0 } else { bias + (3 * part * size_of::<f32>()) as u64 }
}

/// Fails for heads that do not lie in whole groups of lanes.
fn expect_head(head_dim: usize) -> Result<()> {
    expect(OP, "qkv", head_dim.is_power_of_two() && (16..=128).contains(&head_dim), || {
        ("a head size of 16, 32, 64 or 128 on CUDA".into(), head_dim.to_string())
    })
}

/// Where q, k and v go in e4m3, and v's units.
type Fp8Qkv<'a> = (&'a QuantizedQkv, &'a Tensor<f32, 1>);

/// q, k and v go to `fp8` if it is there, where a kernel cannot store them so through `qkv`.
pub(crate) fn gemm_qkv(
    cuda: &Arc<Cuda>,
    qkv: &Tensor<Act, 4>,
    fp8: Option<Fp8Qkv<'_>>,
    mlp: Option<&Output<'_>>,
    a: Input<'_>,
    segments: &[QkvSegment<'_>],
    rope: &Tensor<f32, 3>,
) -> Result<()> {
    let stored = match a {
        Input::Fp8(a) => fp8::gemm_qkv(cuda, qkv, fp8, mlp, a, segments, rope)?,
        Input::Act(a) => of_act(cuda, qkv, mlp, a, segments, rope).map(|()| false)?,
    };
    match fp8.filter(|_| !stored) {
        Some((out, v_units)) => quantize_qkv(cuda, out, qkv, v_units),
        None => Ok(()),
    }
}

/// Of activations.
fn of_act(
    cuda: &Arc<Cuda>,
    qkv: &Tensor<Act, 4>,
    mlp: Option<&Output<'_>>,
    a: Matrix<'_, Act>,
    segments: &[QkvSegment<'_>],
    rope: &Tensor<f32, 3>,
) -> Result<()> {
    match mlp {
        None => act_gemm_qkv(cuda, qkv, None, a, segments, rope),
        Some(mlp) => through_staging(cuda, OP, mlp, |mlp| {
            act_gemm_qkv(cuda, qkv, Some(mlp), a, segments, rope)
        }),
    }
}

/// Activations to activations.
fn act_gemm_qkv(
    cuda: &Arc<Cuda>,
    qkv: &Tensor<Act, 4>,
    mlp: Option<&MatrixMut<'_, Act>>,
    a: Matrix<'_, Act>,
    segments: &[QkvSegment<'_>],
    rope: &Tensor<f32, 3>,
) -> Result<()> {
    let [rows, _, _, head_dim] = qkv.shape();
    let [_, k] = a.shape();
    if rows == 0 {
        return Ok(());
    }
    expect_head(head_dim)?;
    let pair = pair(OP, segments)?;
    let mlp = mlp.map(MatrixMut::as_ref);
    let mlp_sizes = mlp.map_or([0; 2], |mlp| [mlp.shape()[1], mlp.stride()]);
    for value in [k, a.stride()].into_iter().chain(mlp_sizes) {
        expect_multiple_of_8(OP, "K, MLP width or a row's stride", value)?;
    }
    let mut weight = [0; 2];
    for (address, segment) in weight.iter_mut().zip(pair) {
        *address = bf16_weight(OP, whole(&segment.linear.weight))?;
    }
    let mlp_address = mlp.map_or(0, |mlp| mlp.cuda_address());
    for address in [mlp_address, a.cuda_address(), weight[0], weight[1]] {
        expect_aligned(OP, "operand", address)?;
    }
    cuda.note_input(OP, a.cuda_address(), [rows, k, a.stride()])?;
    let inputs = Inputs {
        qkv: qkv.matrix_of(rows),
        mlp,
        a,
        head_dim,
        split: pair[0].rows.end,
        weight,
        rows: WeightRows::of(pair, qkv.matrix_of(rows).shape()[1] / 3)?,
        bias: pair.map(|segment| address_or_null(segment.linear.bias.as_ref())),
        q_norm: pair.map(|segment| segment.q_norm.cuda_address()),
        k_norm: pair.map(|segment| segment.k_norm.cuda_address()),
        rope: rope.cuda_address(),
        eps: EPS,
    };
    if sm90::gemm_qkv(cuda, &inputs)? {
        return Ok(());
    }
    portable(cuda, &inputs)
}

fn portable(cuda: &Arc<Cuda>, inputs: &Inputs<'_>) -> Result<()> {
    let ([rows, width], [_, k]) = (inputs.qkv.shape(), inputs.a.shape());
    let (part, head_dim, split) = (width / 3, inputs.head_dim, inputs.split);
    let [mlp_width, mlp_stride] = inputs.mlp.map_or([0; 2], |mlp| [mlp.shape()[1], mlp.stride()]);
    let columns = [part, part, part, mlp_width];
    let tiling = tile::choose(cuda, [split, rows - split], &columns, suits(head_dim));
    let first = |index: usize| int(OP, "weight", index * inputs.rows.part_rows);
    let params = Params {
        qkv: inputs.qkv.cuda_address(),
        mlp: inputs.mlp.map_or(0, |mlp| mlp.cuda_address()),
        a: inputs.a.cuda_address(),
        weight: inputs.weight,
        bias: inputs.bias,
        q_norm: inputs.q_norm,
        k_norm: inputs.k_norm,
        rope: inputs.rope,
        rows: int(OP, "S", rows)?,
        split: int(OP, "S", split)?,
        k: int(OP, "K", k)?,
        a_stride: int(OP, "stride", inputs.a.stride())?,
        weight_stride: int(OP, "K", inputs.rows.stride)?,
        heads: int(OP, "heads", part / head_dim)?,
        head_dim: int(OP, "head size", head_dim)?,
        mlp_width: int(OP, "MLP width", mlp_width)?,
        mlp_stride: int(OP, "stride", mlp_stride)?,
        part_row: [0, first(1)?, first(2)?, first(3)?],
        raster_rows: tiling.raster_rows,
        round_like_diffusers: cuda.round_like_diffusers(),
        eps: inputs.eps,
    };
    let entry = format!("gemm_qkv_{}", tiling.tile.name());
    let work = Work::Flops(2 * rows * (3 * part + mlp_width) * k);
    cuda.launch(&entry, tiling.launch(OP)?.doing(work), &params)
}
