//! Launcher of the Hopper kernels of `gemm` over e4m3: as in `sm90.rs`, with scales.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::MapElement;
use crate::device::MapLayout;
use crate::device::Matrix;
use crate::device::Output;
use crate::device::QuantizedRef;
use crate::device::Scaling;
use crate::device::Swizzle;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::device::operand::no_fp8;
use crate::error::Result;
use crate::ops::cuda::expect_aligned;
use crate::ops::cuda::gemm::Gates;
use crate::ops::cuda::gemm::OP;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CHUNK_ROWS;
use crate::ops::cuda::tile::hopper::HopperTile;
use crate::ops::cuda::tile::hopper::SLAB_BYTES;
use crate::ops::cuda::tile::hopper::Segments;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::fp8::FP8_BLOCK;
use crate::ops::cuda::tile::hopper::fp8::FP8_GELU;
use crate::ops::cuda::tile::hopper::fp8::FP8_ROW;
use crate::ops::cuda::tile::hopper::quickest;
use crate::ops::cuda::tile::hopper::weight_maps;
use crate::ops::expect;
use crate::ops::gemm::Activation;
use crate::ops::gemm::Weight;

kernel_params!(Params, 1280, {
    0 a: [TensorMap; 2],
    256 weight: [TensorMap; 2],
    512 out: [TensorMap; 2],
    768 residual: [TensorMap; 2],
    1024 slab_scale: TensorMap,
    1152 row_scale: [u64; 2],
    1168 weight_scale: [u64; 2],
    1184 bias: [u64; 2],
    1200 out_scale: [u64; 2],
    1216 gate_table: u64,
    1224 step: u64,
    1232 rows: [i32; 2],
    1240 columns: i32,
    1244 k: i32,
    1248 gate_stride: i32,
    1252 gate_column: [i32; 2],
    1260 raster_rows: i32,
    1264 has_residual: i32,
    1268 out_scale_stride: i32,
    1272 reserved: [i32; 2],
});

/// The tiles of the kernels for such operands, if there are any.
fn tiles(
    a: &QuantizedRef<'_>,
    out: &Output<'_>,
    activation: Activation,
) -> Option<&'static [HopperTile]> {
    match (a.scaling, out, activation) {
        (Scaling::Row, Output::Act(_), Activation::None) => Some(&FP8_ROW),
        (Scaling::Row, Output::Fp8 { out, .. }, Activation::GeluTanh) => {
            (out.scaling == Scaling::Block).then_some(&FP8_GELU[..])
        }
        (Scaling::Block, Output::Act(_), Activation::None) => Some(&FP8_BLOCK),
        _ => None,
    }
}

/// Addresses of a weight's values and scales.
pub(in crate::ops::cuda) fn fp8_weight(op: &'static str, weight: &Weight) -> Result<[u64; 2]> {
    let Weight::Fp8(quantized) = weight else {
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
    pub(in crate::ops::cuda) bias: [u64; 2],
    pub(in crate::ops::cuda) gates: Gates,
    pub(in crate::ops::cuda) activation: Activation,
}

/// Launches the kernel for `a` in e4m3.
pub(in crate::ops::cuda) fn gemm(cuda: &Arc<Cuda>, product: &Fp8Product<'_>) -> Result<()> {
    let Fp8Product { out, a, residual, split, weight, gates, .. } = product;
    let (split, [rows, columns], [_, k]) = (*split, out.shape(), a.shape());
    let tiles = tiles(a, out, product.activation).filter(|_| cuda.tier() == Tier::Sm90);
    let tile = tiles.and_then(|tiles| {
        quickest(cuda, tiles, [split, rows - split], [columns, k], residual.is_some())
    });
    let tile = tile.ok_or_else(|| no_fp8(OP))?;
    check(a, weight.map(|[values, _]| values), columns)?;
    let segments = Segments { cuda, split, rows };
    let chunk = [CHUNK_ROWS, tile.chunk_columns];
    let swizzle = tile.chunk_swizzle();
    let (out_maps, out_scale, out_scale_stride) = match out {
        Output::Act(out) => (segments.maps(out.as_ref(), chunk, swizzle)?, [0; 2], 0),
        Output::Fp8 { out, .. } => {
            let (values, scales) = (out.values.as_ref(), out.scales.as_ref());
            let maps = segments.maps(values, chunk, swizzle)?;
            (maps, of_segments(scales, split), scales.stride())
        }
    };
    let values = weight.map(|[values, _]| values);
    let params = Params {
        a: segments.maps(a.values, [tile.rows, SLAB_BYTES], Swizzle::Bytes128)?,
        weight: weight_maps(cuda, MapElement::Byte, values, [columns, k], tile.columns)?,
        out: out_maps,
        residual: match residual {
            Some(residual) => segments.maps(*residual, chunk, swizzle)?,
            None => out_maps,
        },
        slab_scale: match a.scaling {
            Scaling::Row => out_maps[0],
            Scaling::Block => cuda.tensor_map(&MapLayout {
                element: MapElement::F32,
                address: a.scales.cuda_address(),
                sizes: [rows, a.scales.shape()[0]],
                strides: [1, a.scales.stride()],
                // Of each consumer, and of what is between its rows and 16 bytes before.
                tile: [tile.rows / 2 + 4, 1],
                swizzle: Swizzle::None,
            })?,
        },
        row_scale: of_segments(a.scales, split),
        weight_scale: weight.map(|[_, scales]| scales),
        bias: product.bias,
        out_scale,
        gate_table: gates.table,
        step: gates.step,
        rows: segments.lengths(OP)?,
        columns: int(OP, "N", columns)?,
        k: int(OP, "K", k)?,
        gate_stride: gates.stride,
        gate_column: gates.column,
        raster_rows: tile.raster_rows,
        has_residual: i32::from(residual.is_some()),
        out_scale_stride: int(OP, "stride", out_scale_stride)?,
        reserved: [0; 2],
    };
    let count = tile.count([split, rows - split], columns);
    let launch = cluster_launch(cuda, OP, count, tile.smem_bytes)?;
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch(tile.kernel, launch.doing(work), &params)
}

/// Fails for what bulk copies cannot take.
fn check(a: &QuantizedRef<'_>, weights: [u64; 2], columns: usize) -> Result<()> {
    let [_, k] = a.shape();
    for (value, unit) in [(k, 16), (a.values.stride(), 16), (columns, 16)] {
        expect(OP, "N, K or a row's stride", value.is_multiple_of(unit), || {
            (format!("a multiple of {unit} in e4m3"), value.to_string())
        })?;
    }
    for address in weights.into_iter().chain([a.values.cuda_address()]) {
        expect_aligned(OP, "operand", address)?;
    }
    Ok(())
}
