//! Launcher of the kernels of `gemm_qkv` over e4m3 for every card that computes in it.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::Work;
use crate::device::operand::no_fp8;
use crate::error::Result;
use crate::ops::cuda::expect_aligned;
use crate::ops::cuda::gemm_qkv::EPS;
use crate::ops::cuda::gemm_qkv::OP;
use crate::ops::cuda::gemm_qkv::expect_head;
use crate::ops::cuda::gemm_qkv::fp8::Fp8Inputs;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile;
use crate::ops::cuda::tile::Tile;

kernel_params!(Params, 152, {
    0 qkv: u64,
    8 a: u64,
    16 weight: [u64; 2],
    32 row_scale: u64,
    40 weight_scale: [u64; 2],
    56 bias: [u64; 2],
    72 q_norm: [u64; 2],
    88 k_norm: [u64; 2],
    104 rope: u64,
    112 rows: i32,
    116 split: i32,
    120 k: i32,
    124 a_stride: i32,
    128 weight_stride: i32,
    132 heads: i32,
    136 head_dim: i32,
    140 raster_rows: i32,
    144 eps: f32,
    148 part_rows: i32,
});

/// The tiles of the kernels: all hold whole heads.
const TILES: [Tile; 3] = [Tile::T64x128, Tile::T128x128, Tile::T128x256];

/// Launches the kernel; strides and K were checked.
pub(super) fn gemm_qkv(cuda: &Arc<Cuda>, inputs: &Fp8Inputs<'_>) -> Result<()> {
    let Fp8Inputs { qkv, a, split, weight, rows: rows_of_weight, .. } = *inputs;
    let ([rows, _, heads, head_dim], [_, k]) = (qkv.shape(), a.shape());
    if !cuda.has_fp8() {
        return Err(no_fp8(OP));
    }
    expect_head(head_dim)?;
    let values = weight.map(|[values, _]| values);
    for address in values.into_iter().chain([a.values.cuda_address()]) {
        expect_aligned(OP, "operand", address)?;
    }
    let part = heads * head_dim;
    let tiling = tile::choose(cuda, [split, rows - split], &[part; 3], &TILES);
    let params = Params {
        qkv: qkv.cuda_address(),
        a: a.values.cuda_address(),
        weight: values,
        row_scale: a.scales.cuda_address(),
        weight_scale: weight.map(|[_, scales]| scales),
        bias: inputs.bias,
        q_norm: inputs.q_norm,
        k_norm: inputs.k_norm,
        rope: inputs.rope,
        rows: int(OP, "S", rows)?,
        split: int(OP, "S", split)?,
        k: int(OP, "K", k)?,
        a_stride: int(OP, "stride", a.values.stride())?,
        weight_stride: int(OP, "K", rows_of_weight.stride)?,
        heads: int(OP, "heads", heads)?,
        head_dim: int(OP, "head size", head_dim)?,
        raster_rows: tiling.raster_rows,
        eps: EPS,
        part_rows: int(OP, "rows", rows_of_weight.part_rows)?,
    };
    let entry = format!("gemm_qkv_fp8_sm89_{}", tiling.tile.name());
    let work = Work::Flops(2 * rows * 3 * part * k);
    cuda.launch(&entry, tiling.launch(OP)?.doing(work), &params)
}
