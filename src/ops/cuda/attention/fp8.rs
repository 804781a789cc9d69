//! Launcher of `attention` over e4m3, head size 128, no mask: that of the Hopper kernel.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::MapElement;
use crate::device::MapLayout;
use crate::device::Output;
use crate::device::QuantizedQkv;
use crate::device::Swizzle;
use crate::device::Tensor;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::device::operand::no_fp8;
use crate::error::Result;
use crate::ops::cuda::attention::OP;
use crate::ops::cuda::attention::sm89;
use crate::ops::cuda::attention::sm90::partials;
use crate::ops::cuda::expect_aligned;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CLUSTER;
use crate::ops::cuda::tile::hopper::HEAD;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::fp8::FP8_ATTENTION;
use crate::ops::expect;

kernel_params!(Params, 512, {
    0 q: TensorMap,
    128 k: TensorMap,
    256 v: TensorMap,
    384 out: u64,
    392 v_scales: u64,
    400 partials: u64,
    408 flags: u64,
    416 seq: i32,
    420 heads: i32,
    424 out_stride: i32,
    428 scale: f32,
    432 reserved: [i32; 20],
});

/// Channels of v that lie together.
const CHANNEL_GROUP: usize = 8;

/// Checked operands: what the kernels need.
pub(super) struct Fp8Attention<'a> {
    pub(super) qkv: &'a QuantizedQkv,
    pub(super) v_units: u64,
    /// With the scales of q and k.
    pub(super) scale: f32,
    pub(super) out: u64,
    pub(super) out_stride: i32,
    /// Whether the output is e4m3, in quarters of v's units, whatever they are: kernels need none then.
    pub(super) quantizes: bool,
}

pub(crate) fn attention_fp8(
    cuda: &Arc<Cuda>,
    out: &Output<'_>,
    qkv: &QuantizedQkv,
    v_units: &Tensor<f32, 1>,
    scale: f32,
) -> Result<()> {
    let [seq, _, heads, head_dim] = qkv.qk.shape();
    if seq == 0 || heads == 0 {
        return Ok(());
    }
    if head_dim != HEAD {
        return Err(no_fp8(OP));
    }
    expect(OP, "scale", scale > 0.0, || ("a positive number".into(), scale.to_string()))?;
    let (address, stride, unit, quantizes) = match out {
        Output::Act(out) => (out.as_ref().cuda_address(), out.stride(), 8, false),
        Output::Fp8 { out, .. } => {
            (out.values.as_ref().cuda_address(), out.values.stride(), 16, true)
        }
    };
    expect_aligned(OP, "out", address)?;
    expect(OP, "stride of out", stride.is_multiple_of(unit), || {
        (format!("a multiple of {unit}"), stride.to_string())
    })?;
    let operands = Fp8Attention {
        qkv,
        v_units: v_units.cuda_address(),
        scale: scale * qkv.qk_scales[0] * qkv.qk_scales[1],
        out: address,
        out_stride: int(OP, "stride", stride)?,
        quantizes,
    };
    match cuda.tier() {
        Tier::Sm90 => hopper(cuda, &operands),
        Tier::Portable | Tier::Sm89 => sm89::attention(cuda, &operands),
    }
}

fn hopper(cuda: &Arc<Cuda>, operands: &Fp8Attention<'_>) -> Result<()> {
    let qkv = operands.qkv;
    let [seq, _, heads, _] = qkv.qk.shape();
    let entry = match operands.quantizes {
        true => "attention_fp8_sm90_d128_e4m3",
        false => FP8_ATTENTION.kernel,
    };
    let keys = |rows| {
        cuda.tensor_map(&MapLayout {
            element: MapElement::Byte,
            address: qkv.qk.cuda_address(),
            sizes: [2 * heads * HEAD, seq],
            strides: [1, 2 * heads * HEAD],
            tile: [HEAD, rows],
            swizzle: Swizzle::Bytes128,
        })
    };
    let [_, _, padded] = qkv.v.shape();
    let params = Params {
        q: keys(FP8_ATTENTION.rows)?,
        k: keys(FP8_ATTENTION.columns / CLUSTER)?,
        v: cuda.tensor_map(&MapLayout {
            element: MapElement::Byte,
            address: qkv.v.cuda_address(),
            sizes: [
                FP8_ATTENTION.columns,
                CHANNEL_GROUP,
                padded / FP8_ATTENTION.columns,
                heads * HEAD / CHANNEL_GROUP,
            ],
            strides: [1, padded, FP8_ATTENTION.columns, CHANNEL_GROUP * padded],
            tile: [FP8_ATTENTION.columns, CHANNEL_GROUP, 1, HEAD / CHANNEL_GROUP / CLUSTER],
            swizzle: Swizzle::Bytes128,
        })?,
        out: operands.out,
        v_scales: operands.v_units,
        partials: partials(cuda),
        flags: cuda.scratch(),
        seq: int(OP, "S", seq)?,
        heads: int(OP, "heads", heads)?,
        out_stride: operands.out_stride,
        scale: operands.scale,
        reserved: [0; 20],
    };
    let tiles = seq.div_ceil(CLUSTER * FP8_ATTENTION.rows) * heads;
    let launch = cluster_launch(cuda, OP, tiles, FP8_ATTENTION.smem_bytes)?;
    let work = Work::Flops(4 * seq * seq * heads * HEAD);
    cuda.launch(entry, launch.doing(work), &params)
}
