//! Launcher of `quantize_qkv`: blocks of 16 channels of v, then blocks of 4,096 values of q and k.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::QuantizedQkv;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;
use crate::ops::expect;

const OP: &str = "quantize_qkv";
const THREADS: u32 = 256;
/// Values of q and k a block, channels of v a block.
const VALUES: usize = 16 * THREADS as usize;
const CHANNELS: usize = 16;

kernel_params!(Params, 56, {
    0 qk: u64,
    8 v: u64,
    16 v_units: u64,
    24 qkv: u64,
    32 seq: i32,
    36 heads: i32,
    40 head_dim: i32,
    44 padded: i32,
    48 inverse: [f32; 2],
});

pub(crate) fn quantize_qkv(
    cuda: &Arc<Cuda>,
    out: &QuantizedQkv,
    qkv: &Tensor<Act, 4>,
    v_units: &Tensor<f32, 1>,
) -> Result<()> {
    let [seq, _, heads, head_dim] = qkv.shape();
    if seq == 0 || heads == 0 {
        return Ok(());
    }
    expect(OP, "head size", head_dim.is_multiple_of(CHANNELS), || {
        (format!("a multiple of {CHANNELS} on CUDA"), head_dim.to_string())
    })?;
    let [_, _, padded] = out.v.shape();
    let params = Params {
        qk: out.qk.cuda_address(),
        v: out.v.cuda_address(),
        v_units: v_units.cuda_address(),
        qkv: qkv.cuda_address(),
        seq: int(OP, "S", seq)?,
        heads: int(OP, "heads", heads)?,
        head_dim: int(OP, "head size", head_dim)?,
        padded: int(OP, "keys", padded)?,
        inverse: out.qk_scales.map(|scale| 1.0 / scale),
    };
    let width = heads * head_dim;
    let grid = width / CHANNELS + (2 * seq * width).div_ceil(VALUES);
    let entry = match cuda.has_fp8() {
        true => "quantize_qkv_sm89",
        false => "quantize_qkv",
    };
    let work = Work::Bytes(3 * 3 * seq * width);
    cuda.launch(entry, linear_grid(blocks(OP, grid, 1)?, THREADS).doing(work), &params)
}
