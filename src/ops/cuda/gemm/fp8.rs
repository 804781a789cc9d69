//! Launcher of `gemm` over e4m3: that of the Hopper kernels, as in `sm90.rs`, with scales.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::MapElement;
use crate::device::Matrix;
use crate::device::Output;
use crate::device::QuantizedRef;
use crate::device::Swizzle;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::expect_aligned;
use crate::ops::cuda::gemm::Gates;
use crate::ops::cuda::gemm::OP;
use crate::ops::cuda::gemm::layout::Columns;
use crate::ops::cuda::gemm::layout::whole;
use crate::ops::cuda::gemm::sm89;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CHUNK_ROWS;
use crate::ops::cuda::tile::hopper::HopperTile;
use crate::ops::cuda::tile::hopper::SLAB_BYTES;
use crate::ops::cuda::tile::hopper::Segments;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::fp8::FP8_GELU;
use crate::ops::cuda::tile::hopper::fp8::FP8_ROW;
use crate::ops::cuda::tile::hopper::quickest;
use crate::ops::cuda::tile::hopper::weight_maps;
use crate::ops::expect;
use crate::ops::gemm::Activation;
use crate::ops::gemm::Weight;

kernel_params!(Params, 1152, {
    0 a: [TensorMap; 2],
    256 weight: [TensorMap; 2],
    512 out: [TensorMap; 2],
    768 residual: [TensorMap; 2],
    1024 row_scale: [u64; 2],
    1040 weight_scale: [u64; 2],
    1056 bias: [u64; 2],
    1072 units: u64,
    1080 gate_table: u64,
    1088 step: u64,
    1096 rows: [i32; 2],
    1104 columns: i32,
    1108 k: i32,
    1112 gate_stride: i32,
    1116 gate_column: [i32; 2],
    1124 raster_rows: i32,
    1128 has_residual: i32,
    1132 gap_at: i32,
    1136 gap: i32,
    1140 reserved: [i32; 3],
});

/// The tiles of the kernels for such operands, if there are any.
fn tiles(out: &Output<'_>, activation: Activation) -> Option<&'static [HopperTile]> {
    match (out, activation) {
        (Output::Act(_), Activation::None) => Some(&FP8_ROW),
        (Output::Fp8 { units: Some(_), .. }, Activation::GeluTanh) => Some(&FP8_GELU),
        _ => None,
    }
}

/// Addresses of a weight's values and scales, of a part those of its whole.
pub(in crate::ops::cuda) fn fp8_weight(op: &'static str, weight: &Weight) -> Result<[u64; 2]> {
    let Weight::Fp8(quantized) = whole(weight) else {
        let sentence = || ("e4m3, as the input".into(), "bf16".into());
        return expect(op, "weight", false, sentence).map(|()| [0; 2]);
    };
    let view = quantized.view();
    Ok([view.values.cuda_address(), view.scales.cuda_address()])
}

/// Where each segment's rows begin in scales of all rows.
pub(in crate::ops::cuda) fn of_segments(scales: Matrix<'_, f32>, split: usize) -> [u64; 2] {
    [0, split].map(|row| scales.cuda_address() + 4 * row as u64)
}

/// A product over e4m3: what its kernels need.
pub(in crate::ops::cuda) struct Fp8Product<'a> {
    pub(in crate::ops::cuda) out: &'a Output<'a>,
    pub(in crate::ops::cuda) a: QuantizedRef<'a>,
    pub(in crate::ops::cuda) residual: Option<Matrix<'a, Act>>,
    /// Rows of the first segment.
    pub(in crate::ops::cuda) split: usize,
    /// Values and scales of each segment.
    pub(in crate::ops::cuda) weight: [[u64; 2]; 2],
    /// Of both weights.
    pub(in crate::ops::cuda) weight_columns: Columns,
    pub(in crate::ops::cuda) bias: [u64; 2],
    pub(in crate::ops::cuda) gates: Gates,
    pub(in crate::ops::cuda) activation: Activation,
}

/// Launches the kernel for `a` in e4m3.
pub(in crate::ops::cuda) fn gemm(cuda: &Arc<Cuda>, product: &Fp8Product<'_>) -> Result<()> {
    let [_, columns] = product.out.shape();
    check(product, columns)?;
    if hopper(cuda, product)? { Ok(()) } else { sm89::gemm(cuda, product) }
}

/// Launches the Hopper kernel where there is one, and says whether it did.
fn hopper(cuda: &Arc<Cuda>, product: &Fp8Product<'_>) -> Result<bool> {
    let Fp8Product { out, a, residual, split, weight, gates, .. } = product;
    let (split, [rows, columns], [_, k]) = (*split, out.shape(), a.shape());
    let Columns { stride, gap_at, gap } = product.weight_columns;
    // A slab of columns is one copy.
    let whole_slabs = gap == 0 || gap_at.is_multiple_of(SLAB_BYTES);
    let suits = cuda.tier() == Tier::Sm90 && whole_slabs;
    let tiles = tiles(out, product.activation).filter(|_| suits);
    let tile = tiles.and_then(|tiles| {
        quickest(cuda, tiles, [split, rows - split], [columns, k], residual.is_some())
    });
    let Some(tile) = tile else { return Ok(false) };
    let segments = Segments { cuda, split, rows };
    let chunk = [CHUNK_ROWS, tile.chunk_columns];
    let swizzle = tile.chunk_swizzle();
    let (out_maps, units) = match out {
        Output::Act(out) => (segments.maps(out.as_ref(), chunk, swizzle)?, None),
        Output::Fp8 { out, units, .. } => {
            (segments.maps(out.values.as_ref(), chunk, swizzle)?, *units)
        }
    };
    let values = weight.map(|[values, _]| values);
    let params = Params {
        a: segments.maps(a.values, [tile.rows, SLAB_BYTES], Swizzle::Bytes128)?,
        weight: weight_maps(
            cuda,
            MapElement::Byte,
            values,
            [columns, product.weight_columns.extent(k), stride],
            tile.columns,
        )?,
        out: out_maps,
        residual: match residual {
            Some(residual) => segments.maps(*residual, chunk, swizzle)?,
            None => out_maps,
        },
        row_scale: of_segments(a.scales, split),
        weight_scale: weight.map(|[_, scales]| scales),
        bias: product.bias,
        units: units.map_or(0, |units| units.cuda_address()),
        gate_table: gates.table,
        step: gates.step,
        rows: segments.lengths(OP)?,
        columns: int(OP, "N", columns)?,
        k: int(OP, "K", k)?,
        gate_stride: gates.stride,
        gate_column: gates.column,
        raster_rows: tile.raster_rows,
        has_residual: i32::from(residual.is_some()),
        gap_at: int(OP, "K", gap_at)?,
        gap: int(OP, "K", gap)?,
        reserved: [0; 3],
    };
    let count = tile.count([split, rows - split], columns);
    let launch = cluster_launch(cuda, OP, count, tile.smem_bytes)?;
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch(tile.kernel, launch.doing(work), &params)?;
    Ok(true)
}

/// Fails for what the kernels cannot copy 16 bytes at a time.
fn check(product: &Fp8Product<'_>, columns: usize) -> Result<()> {
    let a = &product.a;
    let [_, k] = a.shape();
    let Columns { stride, gap_at, gap } = product.weight_columns;
    for value in [k, a.values.stride(), columns, stride, gap_at, gap] {
        expect(OP, "N, K, a gap or a row's stride", value.is_multiple_of(16), || {
            ("a multiple of 16 in e4m3".into(), value.to_string())
        })?;
    }
    let weights = product.weight.map(|[values, _]| values);
    for address in weights.into_iter().chain([a.values.cuda_address()]) {
        expect_aligned(OP, "operand", address)?;
    }
    Ok(())
}
