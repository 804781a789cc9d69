//! Launcher of `gemm_qkv` over e4m3: q, k and v in one launch, that of the Hopper kernel here, the MLP
//! part of a single block as a product of its own.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::MapElement;
use crate::device::MapLayout;
use crate::device::Output;
use crate::device::QuantizedQkv;
use crate::device::QuantizedRef;
use crate::device::Scaling;
use crate::device::Swizzle;
use crate::device::Tensor;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::device::quantized_qkv::KEY_PADDING;
use crate::error::Result;
use crate::ops::cuda::gemm::Gates;
use crate::ops::cuda::gemm::address_or_null;
use crate::ops::cuda::gemm::fp8;
use crate::ops::cuda::gemm::fp8::Fp8Product;
use crate::ops::cuda::gemm::fp8::fp8_weight;
use crate::ops::cuda::gemm::fp8::of_segments;
use crate::ops::cuda::gemm::layout::Columns;
use crate::ops::cuda::gemm::pair;
use crate::ops::cuda::gemm_qkv::EPS;
use crate::ops::cuda::gemm_qkv::Fp8Qkv;
use crate::ops::cuda::gemm_qkv::OP;
use crate::ops::cuda::gemm_qkv::WeightRows;
use crate::ops::cuda::gemm_qkv::behind_bias;
use crate::ops::cuda::gemm_qkv::sm89;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CHUNK_ROWS;
use crate::ops::cuda::tile::hopper::HEAD;
use crate::ops::cuda::tile::hopper::SLAB_BYTES;
use crate::ops::cuda::tile::hopper::Segments;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::fp8::FP8_QKV;
use crate::ops::cuda::tile::hopper::weight_maps;
use crate::ops::expect;
use crate::ops::gemm::Activation;
use crate::ops::gemm_qkv::QkvSegment;

kernel_params!(Params, 1472, {
    0 a: [TensorMap; 2],
    256 weight: [TensorMap; 2],
    512 out: [TensorMap; 2],
    768 qk: [TensorMap; 2],
    1024 v: [TensorMap; 2],
    1280 row_scale: [u64; 2],
    1296 weight_scale: [u64; 2],
    1312 bias: [u64; 2],
    1328 q_norm: [u64; 2],
    1344 k_norm: [u64; 2],
    1360 rope: u64,
    1368 v_units: u64,
    1376 rows: [i32; 2],
    1384 columns: i32,
    1388 part: i32,
    1392 k: i32,
    1396 raster_rows: i32,
    1400 eps: f32,
    1404 inverse: [f32; 2],
    1412 part_rows: i32,
    1416 reserved: [i32; 14],
});

/// Whether the kernel can store v as attention reads it: the tiles of both segments then reach to the
/// end of its padding.
fn stores_values(segments: &[QkvSegment<'_>]) -> bool {
    matches!(segments, [_]) || segments[0].rows.end.is_multiple_of(KEY_PADDING)
}

/// Maps of v `[H Dh, S padded]`, of each segment's keys.
fn value_maps(
    cuda: &Cuda,
    qkv: &QuantizedQkv,
    width: usize,
    [split, rows]: [usize; 2],
) -> Result<[TensorMap; 2]> {
    let [_, _, padded] = qkv.v.shape();
    let map = |first: usize, keys: usize| {
        cuda.tensor_map(&MapLayout {
            element: MapElement::Byte,
            address: qkv.v.cuda_address() + first as u64,
            sizes: [keys, width],
            strides: [1, padded],
            tile: [CHUNK_ROWS, HEAD],
            swizzle: Swizzle::Bytes64,
        })
    };
    // A segment without rows is never stored, but its map has to be one.
    if split == 0 || split == rows {
        return map(0, padded).map(|map| [map, map]);
    }
    Ok([map(0, split)?, map(split, padded - split)?])
}

/// A product over e4m3: what its kernels need.
pub(super) struct Fp8Inputs<'a> {
    pub(super) qkv: &'a Tensor<Act, 4>,
    pub(super) a: QuantizedRef<'a>,
    /// Rows of the first segment.
    pub(super) split: usize,
    /// Values and scales of each segment.
    pub(super) weight: [[u64; 2]; 2],
    pub(super) rows: WeightRows,
    pub(super) bias: [u64; 2],
    pub(super) q_norm: [u64; 2],
    pub(super) k_norm: [u64; 2],
    pub(super) rope: u64,
}

/// Launches the kernels for `a` in e4m3. Says whether q, k and v went to `quantized`; else they are in
/// `qkv`.
pub(super) fn gemm_qkv(
    cuda: &Arc<Cuda>,
    qkv: &Tensor<Act, 4>,
    quantized: Option<Fp8Qkv<'_>>,
    mlp: Option<&Output<'_>>,
    a: QuantizedRef<'_>,
    segments: &[QkvSegment<'_>],
    rope: &Tensor<f32, 3>,
) -> Result<bool> {
    let ([rows, _, heads, head_dim], [_, k]) = (qkv.shape(), a.shape());
    if rows == 0 {
        return Ok(false);
    }
    for value in [k, a.values.stride()] {
        expect(OP, "K or a row's stride", value.is_multiple_of(16), || {
            ("a multiple of 16 in e4m3".into(), value.to_string())
        })?;
    }
    let pair = pair(OP, segments)?;
    let [first, second] = pair.map(|segment| fp8_weight(OP, &segment.linear.weight));
    let inputs = Fp8Inputs {
        qkv,
        a,
        split: pair[0].rows.end,
        weight: [first?, second?],
        rows: WeightRows::of(pair, heads * head_dim)?,
        bias: pair.map(|segment| address_or_null(segment.linear.bias.as_ref())),
        q_norm: pair.map(|segment| segment.q_norm.cuda_address()),
        k_norm: pair.map(|segment| segment.k_norm.cuda_address()),
        rope: rope.cuda_address(),
    };
    let direct = quantized.filter(|_| stores_values(segments));
    let on_hopper = hopper(cuda, &inputs, direct)?;
    if !on_hopper {
        sm89::gemm_qkv(cuda, &inputs)?;
    }
    let stored = on_hopper && direct.is_some();
    let Some(out) = mlp else { return Ok(stored) };
    let Fp8Inputs { split, weight, rows, bias, .. } = inputs;
    let scales_of = |scales| scales + (3 * rows.part_rows * size_of::<f32>()) as u64;
    let weight = weight.map(|[values, scales]| [rows.behind(values, 1), scales_of(scales)]);
    let bias = bias.map(|address| behind_bias(address, heads * head_dim));
    let product = Fp8Product {
        out,
        a,
        residual: None,
        split,
        weight,
        weight_columns: Columns { stride: rows.stride, gap_at: k, gap: 0 },
        bias,
        gates: Gates::NONE,
        activation: Activation::GeluTanh,
    };
    fp8::gemm(cuda, &product)?;
    Ok(stored)
}

/// Launches the Hopper kernel where it suits, and says whether it did. q, k and v go to `quantized` if
/// it is there.
fn hopper(cuda: &Arc<Cuda>, inputs: &Fp8Inputs<'_>, quantized: Option<Fp8Qkv<'_>>) -> Result<bool> {
    let Fp8Inputs { qkv, a, split, weight, rows: WeightRows { part_rows, stride }, .. } = *inputs;
    let ([rows, _, heads, head_dim], [_, k]) = (qkv.shape(), a.shape());
    let (part, columns) = (heads * head_dim, 3 * heads * head_dim);
    let suits =
        head_dim == HEAD && part.is_multiple_of(FP8_QKV.columns) && a.scaling == Scaling::Row;
    if cuda.tier() != Tier::Sm90 || !suits {
        return Ok(false);
    }
    let values = weight.map(|[values, _]| values);
    let segments = Segments { cuda, split, rows };
    let chunk = [CHUNK_ROWS, FP8_QKV.chunk_columns];
    let out = segments.maps(qkv.matrix_of(rows), chunk, FP8_QKV.chunk_swizzle())?;
    let (entry, qk, v, scales, units) = match quantized {
        None => (FP8_QKV.kernel, out, out, [1.0; 2], 0),
        Some((quantized, units)) => {
            let qk = quantized.qk.matrix_of(rows);
            let qk = segments.maps(qk, [CHUNK_ROWS, HEAD], Swizzle::Bytes128)?;
            let v = value_maps(cuda, quantized, part, [split, rows])?;
            let entry = "gemm_qkv_fp8_sm90_128x256_e4m3";
            (entry, qk, v, quantized.qk_scales, units.cuda_address())
        }
    };
    let params = Params {
        a: segments.maps(a.values, [FP8_QKV.rows, SLAB_BYTES], Swizzle::Bytes128)?,
        weight: weight_maps(
            cuda,
            MapElement::Byte,
            values,
            [2 * part_rows + part, k, stride],
            FP8_QKV.columns,
        )?,
        out,
        qk,
        v,
        row_scale: of_segments(a.scales, split),
        weight_scale: weight.map(|[_, scales]| scales),
        bias: inputs.bias,
        q_norm: inputs.q_norm,
        k_norm: inputs.k_norm,
        rope: inputs.rope,
        v_units: units,
        rows: segments.lengths(OP)?,
        columns: int(OP, "columns", columns)?,
        part: int(OP, "columns", part)?,
        k: int(OP, "K", k)?,
        raster_rows: FP8_QKV.raster_rows,
        eps: EPS,
        inverse: scales.map(|scale| 1.0 / scale),
        part_rows: int(OP, "rows", part_rows)?,
        reserved: [0; 14],
    };
    let count = FP8_QKV.count([split, rows - split], columns);
    let launch = cluster_launch(cuda, OP, count, FP8_QKV.smem_bytes)?;
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch(entry, launch.doing(work), &params)?;
    Ok(true)
}
