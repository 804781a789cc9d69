//! Launcher of the Hopper kernel of `attention`: head size 128, no mask.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::MapElement;
use crate::device::MapLayout;
use crate::device::MatrixMut;
use crate::device::Swizzle;
use crate::device::Tensor;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::error::Result;
use crate::ops::attention::Mask;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::ATTENTION;
use crate::ops::cuda::tile::hopper::CLUSTER;
use crate::ops::cuda::tile::hopper::HEAD;
use crate::ops::cuda::tile::hopper::SLAB;
use crate::ops::cuda::tile::hopper::cluster_launch;

const OP: &str = "attention";

kernel_params!(Params, 320, {
    0 q: TensorMap,
    128 kv: TensorMap,
    256 out: u64,
    264 partials: u64,
    272 flags: u64,
    280 seq: i32,
    284 heads: i32,
    288 out_stride: i32,
    292 scale: f32,
    296 reserved: [i32; 6],
});

/// Where blocks leave what others finish: behind the flags.
pub(super) fn partials(cuda: &Cuda) -> u64 {
    cuda.scratch() + (Cuda::FLAG_BYTES * cuda.multiprocessors()) as u64
}

/// Launches the Hopper kernel where it suits, and says whether it did. `out` was checked for kernels
/// that store 16 bytes at a time.
pub(super) fn attention(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    qkv: &Tensor<Act, 4>,
    mask: Mask<'_>,
    scale: f32,
) -> Result<bool> {
    let [seq, _, heads, head_dim] = qkv.shape();
    let suits = head_dim == HEAD && matches!(mask, Mask::None);
    if cuda.tier() != Tier::Sm90 || !suits {
        return Ok(false);
    }
    let width = 3 * heads * HEAD;
    let map = cuda.tensor_map(&MapLayout {
        element: MapElement::Bf16,
        address: qkv.cuda_address(),
        sizes: [width, seq],
        strides: [1, width],
        tile: [SLAB, ATTENTION.rows],
        swizzle: Swizzle::Bytes128,
    })?;
    let params = Params {
        q: map,
        kv: map,
        out: out.as_ref().cuda_address(),
        partials: partials(cuda),
        flags: cuda.scratch(),
        seq: int(OP, "S", seq)?,
        heads: int(OP, "heads", heads)?,
        out_stride: int(OP, "stride", out.stride())?,
        scale,
        reserved: [0; 6],
    };
    let tiles = seq.div_ceil(CLUSTER * ATTENTION.rows) * heads;
    let launch = cluster_launch(cuda, OP, tiles, ATTENTION.smem_bytes)?;
    let work = Work::Flops(4 * seq * seq * heads * head_dim);
    cuda.launch(ATTENTION.kernel, launch.doing(work), &params)?;
    Ok(true)
}
