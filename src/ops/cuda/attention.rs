//! Launcher of `attention`.

mod fp8;
mod sm89;
mod sm90;

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Launch;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::attention::Mask;
use crate::ops::cuda::blocks;
use crate::ops::cuda::expect_aligned;
use crate::ops::cuda::expect_multiple_of_8;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::expect;

pub(crate) use fp8::attention_fp8;

const OP: &str = "attention";

kernel_params!(Params, 48, {
    0 out: u64,
    8 qkv: u64,
    16 bias: u64,
    24 seq: i32,
    28 heads: i32,
    32 head_dim: i32,
    36 out_stride: i32,
    40 mask: i32,
    44 scale: f32,
});

/// An entry and the queries of its blocks, its threads and its shared memory.
struct Kernel(&'static str, usize, u32, u32);

/// Shared memory that a block of `attention_wide` takes; cards of compute capability 8.6, 8.9 and 12.0 have 99 KB.
const WIDE_SMEM_BYTES: u32 = 148_480;

fn kernel(cuda: &Arc<Cuda>, head_dim: usize, mask: Mask<'_>) -> Kernel {
    match (head_dim, mask) {
        (128, Mask::None) => Kernel("attention_d128", 128, 128, 81_920),
        (64, Mask::None) => Kernel("attention_d64", 128, 128, 40_960),
        (64, Mask::Causal) => Kernel("attention_d64_causal", 128, 128, 40_960),
        (64, Mask::Relative(_)) => Kernel("attention_d64_relative", 128, 128, 40_960),
        (0..=128, _) => Kernel("attention_general", 128, 128, 57_344),
        _ if cuda.smem_bytes_per_block() >= WIDE_SMEM_BYTES => {
            Kernel("attention_wide", 64, 256, WIDE_SMEM_BYTES)
        }
        _ => Kernel("attention_wide_small", 64, 256, 99_328),
    }
}

pub(crate) fn attention(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    qkv: &Tensor<Act, 4>,
    mask: Mask<'_>,
    scale: f32,
) -> Result<()> {
    let [seq, _, heads, head_dim] = qkv.shape();
    if seq == 0 || heads == 0 {
        return Ok(());
    }
    let Kernel(entry, queries, threads, smem_bytes) = kernel(cuda, head_dim, mask);
    let wide = head_dim > 128;
    expect(OP, "qkv", head_dim <= 512 && (!wide || matches!(mask, Mask::None)), || {
        let expected = "a head size of at most 128, or of at most 512 without a mask, on CUDA";
        (expected.into(), head_dim.to_string())
    })?;
    expect(OP, "scale", scale > 0.0, || ("a positive number".into(), scale.to_string()))?;
    expect(OP, "heads", heads <= 65_535, || ("at most 65535".into(), heads.to_string()))?;
    if entry != "attention_general" {
        expect_multiple_of_8(OP, "head size", head_dim)?;
        expect_multiple_of_8(OP, "stride of out", out.stride())?;
        expect_aligned(OP, "out", out.as_ref().cuda_address())?;
    }
    if sm90::attention(cuda, out, qkv, mask, scale)? {
        return Ok(());
    }
    let params = Params {
        out: out.as_ref().cuda_address(),
        qkv: qkv.cuda_address(),
        bias: if let Mask::Relative(bias) = mask { bias.cuda_address() } else { 0 },
        seq: int(OP, "S", seq)?,
        heads: int(OP, "heads", heads)?,
        head_dim: int(OP, "head size", head_dim)?,
        out_stride: int(OP, "stride", out.stride())?,
        mask: match mask {
            Mask::None => 0,
            Mask::Causal => 1,
            Mask::Relative(_) => 2,
        },
        scale,
    };
    let grid = [blocks(OP, seq, queries)?, params.heads.unsigned_abs(), 1];
    let pairs = if matches!(mask, Mask::Causal) { seq * (seq + 1) / 2 } else { seq * seq };
    let work = Work::Flops(4 * pairs * heads * head_dim);
    cuda.launch(entry, Launch { grid, threads, smem_bytes, work }, &params)
}
