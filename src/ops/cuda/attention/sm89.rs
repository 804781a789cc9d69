//! Launcher of the kernel of `attention` over e4m3 for every card that computes in it.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::Launch;
use crate::device::Work;
use crate::device::operand::no_fp8;
use crate::error::Result;
use crate::ops::cuda::attention::OP;
use crate::ops::cuda::attention::fp8::Fp8Attention;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::expect;

kernel_params!(Params, 56, {
    0 out: u64,
    8 qk: u64,
    16 v: u64,
    24 v_units: u64,
    32 seq: i32,
    36 heads: i32,
    40 padded: i32,
    44 out_stride: i32,
    48 scale: f32,
    52 reserved: i32,
});

/// Queries of a block.
const QUERIES: usize = 128;

pub(super) fn attention(cuda: &Arc<Cuda>, operands: &Fp8Attention<'_>) -> Result<()> {
    let qkv = operands.qkv;
    let ([seq, _, heads, head_dim], [_, _, padded]) = (qkv.qk.shape(), qkv.v.shape());
    if !cuda.has_fp8() {
        return Err(no_fp8(OP));
    }
    expect(OP, "heads", heads <= 65_535, || ("at most 65535".into(), heads.to_string()))?;
    let params = Params {
        out: operands.out,
        qk: qkv.qk.cuda_address(),
        v: qkv.v.cuda_address(),
        v_units: operands.v_units,
        seq: int(OP, "S", seq)?,
        heads: int(OP, "heads", heads)?,
        padded: int(OP, "keys", padded)?,
        out_stride: operands.out_stride,
        scale: operands.scale,
        reserved: 0,
    };
    let entry = match operands.quantizes {
        true => "attention_fp8_sm89_d128_e4m3",
        false => "attention_fp8_sm89_d128",
    };
    let grid = [blocks(OP, seq, QUERIES)?, params.heads.unsigned_abs(), 1];
    let work = Work::Flops(4 * seq * seq * heads * head_dim);
    cuda.launch(entry, Launch { grid, threads: 128, smem_bytes: 49_152, work }, &params)
}
