//! Launcher of the Hopper kernel of `gemm_qkv` over e4m3: q, k and v in one launch, the MLP part of a
//! single block as a product of its own.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::MapElement;
use crate::device::Output;
use crate::device::QuantizedQkv;
use crate::device::QuantizedRef;
use crate::device::Scaling;
use crate::device::Swizzle;
use crate::device::Tensor;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::device::operand::no_fp8;
use crate::error::Result;
use crate::ops::cuda::gemm::Gates;
use crate::ops::cuda::gemm::address_or_null;
use crate::ops::cuda::gemm::fp8;
use crate::ops::cuda::gemm::fp8::Fp8Product;
use crate::ops::cuda::gemm::fp8::fp8_weight;
use crate::ops::cuda::gemm::fp8::of_segments;
use crate::ops::cuda::gemm::pair;
use crate::ops::cuda::gemm_qkv::EPS;
use crate::ops::cuda::gemm_qkv::OP;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CHUNK_ROWS;
use crate::ops::cuda::tile::hopper::SLAB_BYTES;
use crate::ops::cuda::tile::hopper::Segments;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::fp8::FP8_QKV;
use crate::ops::cuda::tile::hopper::weight_maps;
use crate::ops::gemm::Activation;
use crate::ops::gemm_qkv::QkvSegment;

/// Columns of a head.
const HEAD: usize = 128;

kernel_params!(Params, 1152, {
    0 a: [TensorMap; 2],
    256 weight: [TensorMap; 2],
    512 out: [TensorMap; 2],
    768 qk: [TensorMap; 2],
    1024 row_scale: [u64; 2],
    1040 weight_scale: [u64; 2],
    1056 bias: [u64; 2],
    1072 q_norm: [u64; 2],
    1088 k_norm: [u64; 2],
    1104 rope: u64,
    1112 rows: [i32; 2],
    1120 columns: i32,
    1124 part: i32,
    1128 k: i32,
    1132 raster_rows: i32,
    1136 eps: f32,
    1140 inverse: [f32; 2],
    1148 reserved: i32,
});

/// Launches the kernels for `a` in e4m3. Of q, k and v, q and k go to `quantized` if it is there.
pub(super) fn gemm_qkv(
    cuda: &Arc<Cuda>,
    qkv: &Tensor<Act, 4>,
    quantized: Option<&QuantizedQkv>,
    mlp: Option<&Output<'_>>,
    a: QuantizedRef<'_>,
    segments: &[QkvSegment<'_>],
    rope: &Tensor<f32, 3>,
) -> Result<()> {
    let ([rows, _, heads, head_dim], [_, k]) = (qkv.shape(), a.shape());
    if rows == 0 {
        return Ok(());
    }
    let (part, columns) = (heads * head_dim, 3 * heads * head_dim);
    let suits =
        head_dim == HEAD && part.is_multiple_of(FP8_QKV.columns) && a.scaling == Scaling::Row;
    if cuda.tier() != Tier::Sm90 || !suits || !k.is_multiple_of(16) {
        return Err(no_fp8(OP));
    }
    let pair = pair(OP, segments)?;
    let split = pair[0].rows.end;
    let [first, second] = pair.map(|segment| fp8_weight(OP, &segment.linear.weight));
    let weight = [first?, second?];
    let values = weight.map(|[values, _]| values);
    let bias = pair.map(|segment| address_or_null(segment.linear.bias.as_ref()));
    let segments = Segments { cuda, split, rows };
    let chunk = [CHUNK_ROWS, FP8_QKV.chunk_columns];
    let out = segments.maps(qkv.matrix_of(rows), chunk, FP8_QKV.chunk_swizzle())?;
    let (entry, qk, scales) = match quantized {
        None => (FP8_QKV.kernel, out, [1.0; 2]),
        Some(QuantizedQkv { qk, qk_scales, .. }) => {
            let qk = segments.maps(qk.matrix_of(rows), [CHUNK_ROWS, HEAD], Swizzle::Bytes128)?;
            ("gemm_qkv_fp8_sm90_128x256_e4m3", qk, *qk_scales)
        }
    };
    let params = Params {
        a: segments.maps(a.values, [FP8_QKV.rows, SLAB_BYTES], Swizzle::Bytes128)?,
        weight: weight_maps(cuda, MapElement::Byte, values, [columns, k], FP8_QKV.columns)?,
        out,
        qk,
        row_scale: of_segments(a.scales, split),
        weight_scale: weight.map(|[_, scales]| scales),
        bias,
        q_norm: pair.map(|segment| segment.q_norm.cuda_address()),
        k_norm: pair.map(|segment| segment.k_norm.cuda_address()),
        rope: rope.cuda_address(),
        rows: segments.lengths(OP)?,
        columns: int(OP, "columns", columns)?,
        part: int(OP, "columns", part)?,
        k: int(OP, "K", k)?,
        raster_rows: FP8_QKV.raster_rows,
        eps: EPS,
        inverse: scales.map(|scale| 1.0 / scale),
        reserved: 0,
    };
    let count = FP8_QKV.count([split, rows - split], columns);
    let launch = cluster_launch(cuda, OP, count, FP8_QKV.smem_bytes)?;
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch(entry, launch.doing(work), &params)?;
    let Some(out) = mlp else { return Ok(()) };
    // The rows of W behind q, k and v.
    let behind = |address: u64, bytes: usize| match address {
        0 => 0,
        address => address + (columns * bytes) as u64,
    };
    fp8::gemm(
        cuda,
        &Fp8Product {
            out,
            a,
            residual: None,
            split,
            weight: weight.map(|[values, scales]| [behind(values, k), behind(scales, 4)]),
            bias: bias.map(|address| behind(address, 4)),
            gates: Gates::NONE,
            activation: Activation::GeluTanh,
        },
    )
}
