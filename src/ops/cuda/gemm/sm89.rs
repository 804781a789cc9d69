//! Launcher of the kernels of `gemm` over e4m3 for every card that computes in it.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::Output;
use crate::device::Work;
use crate::device::operand::no_fp8;
use crate::error::Result;
use crate::ops::cuda::expect_aligned;
use crate::ops::cuda::expect_multiple_of_8;
use crate::ops::cuda::gemm::OP;
use crate::ops::cuda::gemm::address_of;
use crate::ops::cuda::gemm::fp8::Fp8Product;
use crate::ops::cuda::gemm::stride_of;
use crate::ops::cuda::gemm::suits;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile;
use crate::ops::gemm::Activation;

kernel_params!(Params, 160, {
    0 out: u64,
    8 a: u64,
    16 residual: u64,
    24 weight: [u64; 2],
    40 row_scale: u64,
    48 weight_scale: [u64; 2],
    64 bias: [u64; 2],
    80 units: u64,
    88 gate_table: u64,
    96 step: u64,
    104 rows: i32,
    108 split: i32,
    112 columns: i32,
    116 k: i32,
    120 out_stride: i32,
    124 a_stride: i32,
    128 residual_stride: i32,
    132 weight_stride: i32,
    136 gate_stride: i32,
    140 gate_column: [i32; 2],
    148 raster_rows: i32,
    152 gap_at: i32,
    156 gap: i32,
});

/// Launches the kernel; `product` was checked by `fp8::gemm`.
pub(super) fn gemm(cuda: &Arc<Cuda>, product: &Fp8Product<'_>) -> Result<()> {
    let Fp8Product { out, a, residual, split, weight, gates, activation, .. } = product;
    let (split, [rows, columns], [_, k]) = (*split, out.shape(), a.shape());
    let (kind, address, stride, units) = match (out, activation) {
        (Output::Act(out), Activation::None) => {
            ("row", out.as_ref().cuda_address(), out.stride(), 0)
        }
        (Output::Fp8 { out, units: Some(units), .. }, Activation::GeluTanh)
            if residual.is_none() =>
        {
            let values = &out.values;
            ("gelu", values.as_ref().cuda_address(), values.stride(), units.cuda_address())
        }
        _ => return Err(no_fp8(OP)),
    };
    if !cuda.has_fp8() {
        return Err(no_fp8(OP));
    }
    for stride in [stride, stride_of(*residual)] {
        expect_multiple_of_8(OP, "a row's stride", stride)?;
    }
    for address in [address, address_of(*residual), units] {
        expect_aligned(OP, "operand", address)?;
    }
    let tiling = tile::choose(cuda, [split, rows - split], &[columns], suits(*activation));
    let params = Params {
        out: address,
        a: a.values.cuda_address(),
        residual: address_of(*residual),
        weight: weight.map(|[values, _]| values),
        row_scale: a.scales.cuda_address(),
        weight_scale: weight.map(|[_, scales]| scales),
        bias: product.bias,
        units,
        gate_table: gates.table,
        step: gates.step,
        rows: int(OP, "M", rows)?,
        split: int(OP, "M", split)?,
        columns: int(OP, "N", columns)?,
        k: int(OP, "K", k)?,
        out_stride: int(OP, "stride", stride)?,
        a_stride: int(OP, "stride", a.values.stride())?,
        residual_stride: int(OP, "stride", stride_of(*residual))?,
        weight_stride: int(OP, "K", product.weight_columns.stride)?,
        gate_stride: gates.stride,
        gate_column: gates.column,
        raster_rows: tiling.raster_rows,
        gap_at: int(OP, "K", product.weight_columns.gap_at)?,
        gap: int(OP, "K", product.weight_columns.gap)?,
    };
    let entry = format!("gemm_fp8_sm89_{}_{kind}", tiling.tile.name());
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch(&entry, tiling.launch(OP)?.doing(work), &params)
}
