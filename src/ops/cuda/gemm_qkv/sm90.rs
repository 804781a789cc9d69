//! Launcher of the Hopper kernel of `gemm_qkv`: q, k and v in one launch, the MLP part of a single
//! block as a GEMM of its own.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::MapElement;
use crate::device::Swizzle;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::gemm::Product;
use crate::ops::cuda::gemm::layout::Columns;
use crate::ops::cuda::gemm::sm90;
use crate::ops::cuda::gemm_qkv::Inputs;
use crate::ops::cuda::gemm_qkv::behind_bias;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CHUNK_ROWS;
use crate::ops::cuda::tile::hopper::HEAD;
use crate::ops::cuda::tile::hopper::QKV;
use crate::ops::cuda::tile::hopper::SLAB;
use crate::ops::cuda::tile::hopper::Segments;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::weight_maps;
use crate::ops::gemm::Activation;

const OP: &str = "gemm_qkv";

kernel_params!(Params, 896, {
    0 a: [TensorMap; 2],
    256 weight: [TensorMap; 2],
    512 out: [TensorMap; 2],
    768 bias: [u64; 2],
    784 q_norm: [u64; 2],
    800 k_norm: [u64; 2],
    816 rope: u64,
    824 rows: [i32; 2],
    832 columns: i32,
    836 part: i32,
    840 k: i32,
    844 raster_rows: i32,
    848 eps: f32,
    852 part_rows: i32,
    856 reserved: [i32; 10],
});

/// Launches the Hopper kernels where they suit, and says whether they did.
pub(super) fn gemm_qkv(cuda: &Arc<Cuda>, inputs: &Inputs<'_>) -> Result<bool> {
    let [rows, columns] = inputs.qkv.shape();
    let part = columns / 3;
    let mlp_width = inputs.mlp.map_or(HEAD, |mlp| mlp.shape()[1]);
    let suits = inputs.head_dim == HEAD
        && part.is_multiple_of(QKV.columns)
        && rows >= QKV.rows
        && mlp_width >= HEAD;
    // Where diffusers' roundings are asked for, the portable kernel has them.
    if cuda.tier() != Tier::Sm90 || !suits || cuda.round_like_diffusers() != 0 {
        return Ok(false);
    }
    let k = inputs.a.shape()[1];
    let segments = Segments { cuda, split: inputs.split, rows };
    let params = Params {
        a: segments.maps(inputs.a, [QKV.rows, SLAB], Swizzle::Bytes128)?,
        weight: weight_maps(
            cuda,
            MapElement::Bf16,
            inputs.weight,
            [2 * inputs.rows.part_rows + part, k, inputs.rows.stride],
            QKV.columns,
        )?,
        out: segments.maps(inputs.qkv, [CHUNK_ROWS, QKV.chunk_columns], QKV.chunk_swizzle())?,
        bias: inputs.bias,
        q_norm: inputs.q_norm,
        k_norm: inputs.k_norm,
        rope: inputs.rope,
        rows: segments.lengths(OP)?,
        columns: int(OP, "columns", columns)?,
        part: int(OP, "columns", part)?,
        k: int(OP, "K", k)?,
        raster_rows: QKV.raster_rows,
        eps: inputs.eps,
        part_rows: int(OP, "rows", inputs.rows.part_rows)?,
        reserved: [0; 10],
    };
    let count = QKV.count([inputs.split, rows - inputs.split], columns);
    let launch = cluster_launch(cuda, OP, count, QKV.smem_bytes)?;
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch(QKV.kernel, launch.doing(work), &params)?;
    let Some(mlp) = inputs.mlp else { return Ok(true) };
    // Tiles that finish in turn hide GELU.
    sm90::gemm(
        cuda,
        &Product {
            out: mlp,
            difference: None,
            a: inputs.a,
            residual: None,
            split: inputs.split,
            weight: inputs.weight.map(|address| inputs.rows.behind(address, 2)),
            weight_columns: Columns { stride: inputs.rows.stride, gap_at: k, gap: 0 },
            bias: inputs.bias.map(|address| behind_bias(address, part)),
            gate_table: 0,
            step: 0,
            gate_stride: 0,
            gate_column: [-1; 2],
            activation: Activation::GeluTanh,
        },
    )
}
