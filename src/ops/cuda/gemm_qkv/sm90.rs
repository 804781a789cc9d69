//! Launcher of the Hopper kernel of `gemm_qkv`: q, k and v in one launch, the MLP part of a single
//! block as a GEMM of its own.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::Swizzle;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::gemm::Product;
use crate::ops::cuda::gemm::sm90;
use crate::ops::cuda::gemm_qkv::Inputs;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CHUNK_ROWS;
use crate::ops::cuda::tile::hopper::CLUSTER;
use crate::ops::cuda::tile::hopper::SLAB;
use crate::ops::cuda::tile::hopper::Segments;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::weight_maps;
use crate::ops::gemm::Activation;

const OP: &str = "gemm_qkv";
/// Columns of a head.
const HEAD: usize = 128;
/// Rows and columns of the output that a block computes: two whole heads.
const TILE: [usize; 2] = [128, 256];
const SMEM_BYTES: u32 = 231_584;
/// Cluster tiles that share a sweep over the columns: their operands stay in L2.
const RASTER_ROWS: i32 = 12;

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
    852 reserved: [i32; 11],
});

/// Launches the Hopper kernels where they suit, and says whether they did.
pub(super) fn gemm_qkv(cuda: &Arc<Cuda>, inputs: &Inputs<'_>) -> Result<bool> {
    let [rows, columns] = inputs.qkv.shape();
    let part = columns / 3;
    let mlp_width = inputs.mlp.map_or(HEAD, |mlp| mlp.shape()[1]);
    let suits = inputs.head_dim == HEAD
        && part.is_multiple_of(TILE[1])
        && rows >= TILE[0]
        && mlp_width >= HEAD;
    // Where diffusers' roundings are asked for, the portable kernel has them.
    if cuda.tier() != Tier::Sm90 || !suits || cuda.round_like_diffusers() != 0 {
        return Ok(false);
    }
    let k = inputs.a.shape()[1];
    let segments = Segments { cuda, split: inputs.split, rows };
    let params = Params {
        a: segments.maps(inputs.a, [TILE[0], SLAB], Swizzle::Bytes128)?,
        weight: weight_maps(cuda, inputs.weight, [columns, k], TILE[1])?,
        out: segments.maps(inputs.qkv, [CHUNK_ROWS, 64], Swizzle::Bytes128)?,
        bias: inputs.bias,
        q_norm: inputs.q_norm,
        k_norm: inputs.k_norm,
        rope: inputs.rope,
        rows: segments.lengths(OP)?,
        columns: int(OP, "columns", columns)?,
        part: int(OP, "columns", part)?,
        k: int(OP, "K", k)?,
        raster_rows: RASTER_ROWS,
        eps: inputs.eps,
        reserved: [0; 11],
    };
    let row_tiles = |rows: usize| rows.div_ceil(CLUSTER * TILE[0]);
    let count = (row_tiles(inputs.split) + row_tiles(rows - inputs.split)) * (columns / TILE[1]);
    let launch = cluster_launch(cuda, OP, count, SMEM_BYTES)?;
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch("gemm_qkv_sm90_128x256", launch.doing(work), &params)?;
    let Some(mlp) = inputs.mlp else { return Ok(true) };
    // The rows of W behind q, k and v; tiles that finish in turn hide GELU.
    let behind = |address: u64, bytes: usize| match address {
        0 => 0,
        address => address + (columns * bytes) as u64,
    };
    sm90::gemm(
        cuda,
        &Product {
            out: mlp,
            difference: None,
            a: inputs.a,
            residual: None,
            split: inputs.split,
            weight: inputs.weight.map(|address| behind(address, 2 * k)),
            bias: inputs.bias.map(|address| behind(address, 4)),
            gate_table: 0,
            step: 0,
            gate_stride: 0,
            gate_column: [-1; 2],
            activation: Activation::GeluTanh,
        },
    )
}
