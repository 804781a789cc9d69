//! Launcher of `gemm`: one launch for one or two segments.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::ModulationVector;
use crate::ops::cuda::expect_aligned;
use crate::ops::cuda::expect_multiple_of_8;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile;
use crate::ops::cuda::tile::Tile;
use crate::ops::expect;
use crate::ops::gemm::Activation;
use crate::ops::gemm::Difference;
use crate::ops::gemm::Segment;
use crate::ops::gemm::Weight;

const OP: &str = "gemm";

kernel_params!(Params, 152, {
    0 out: u64,
    8 a: u64,
    16 residual: u64,
    24 weight: [u64; 2],
    40 bias: [u64; 2],
    56 gate_table: u64,
    64 step: u64,
    72 rows: i32,
    76 split: i32,
    80 columns: i32,
    84 k: i32,
    88 out_stride: i32,
    92 a_stride: i32,
    96 residual_stride: i32,
    100 weight_stride: i32,
    104 gate_stride: i32,
    108 gate_column: [i32; 2],
    116 raster_rows: i32,
    120 round_like_diffusers: i32,
    124 difference_stride: i32,
    128 difference: u64,
    136 from: u64,
    144 from_stride: i32,
    148 reserved: i32,
});

/// The weight's elements, which tensor cores take as bf16.
pub(super) fn bf16_weight(op: &'static str, weight: &Weight) -> Result<u64> {
    match weight {
        Weight::Bf16(tensor) => Ok(tensor.cuda_address()),
        Weight::F32(_) => {
            expect(op, "weight", false, || ("bf16 on CUDA".into(), "f32".into()))?;
            Ok(0)
        }
    }
}

/// The address of a bias, 0 for none.
pub(super) fn address_or_null(tensor: Option<&Tensor<f32, 1>>) -> u64 {
    tensor.map_or(0, Tensor::cuda_address)
}

/// The address of an operand, 0 for none.
fn address_of(operand: Option<Matrix<'_, Act>>) -> u64 {
    operand.map_or(0, |operand| operand.cuda_address())
}

/// The first one or two segments and where they meet; one segment is split from nothing.
pub(super) fn pair<'s, S>(op: &'static str, segments: &'s [S]) -> Result<[&'s S; 2]> {
    expect(op, "segments", matches!(segments.len(), 1 | 2), || {
        ("1 or 2 row ranges".into(), segments.len().to_string())
    })?;
    Ok([&segments[0], &segments[segments.len() - 1]])
}

pub(crate) fn gemm(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    difference: Option<Difference<'_>>,
    a: Matrix<'_, Act>,
    residual: Option<Matrix<'_, Act>>,
    segments: &[Segment<'_>],
    activation: Activation,
) -> Result<()> {
    let [rows, columns] = out.shape();
    let [_, k] = a.shape();
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let pair = pair(OP, segments)?;
    let split = pair[0].rows.end;
    let change = difference.as_ref().map(|difference| difference.out.as_ref());
    let from = difference.as_ref().map(|difference| difference.from);
    let operands = [Some(out.as_ref()), Some(a), residual, change, from];
    let strides = operands.map(|operand| operand.map_or(0, |operand| operand.stride()));
    for value in [columns, k].into_iter().chain(strides) {
        expect_multiple_of_8(OP, "N, K or a row's stride", value)?;
    }
    let mut weight = [0; 2];
    for (address, segment) in weight.iter_mut().zip(pair) {
        *address = bf16_weight(OP, &segment.linear.weight)?;
    }
    let gates = pair.map(|segment| segment.gate);
    expect_gates(gates)?;
    let gate = gates[0].or(gates[1]);
    let gate_column = gates.map(|gate| gate.map_or(Ok(-1), |gate| int(OP, "gate", gate.column)));
    let [first_gate, second_gate] = gate_column;
    let tiling = tile::choose(cuda, [split, rows - split], &[columns], suits(activation));
    let params = Params {
        out: out.as_ref().cuda_address(),
        a: a.cuda_address(),
        residual: address_of(residual),
        weight,
        bias: pair.map(|segment| address_or_null(segment.linear.bias.as_ref())),
        gate_table: gate.map_or(0, |gate| gate.table.cuda_address()),
        step: gate.map_or(0, |gate| gate.step.cuda_address()),
        rows: int(OP, "M", rows)?,
        split: int(OP, "M", split)?,
        columns: int(OP, "N", columns)?,
        k: int(OP, "K", k)?,
        out_stride: int(OP, "stride", strides[0])?,
        a_stride: int(OP, "stride", strides[1])?,
        residual_stride: int(OP, "stride", strides[2])?,
        weight_stride: int(OP, "K", k)?,
        gate_stride: int(OP, "gate", gate.map_or(0, |gate| gate.table.shape()[1]))?,
        gate_column: [first_gate?, second_gate?],
        raster_rows: tiling.raster_rows,
        round_like_diffusers: cuda.round_like_diffusers(),
        difference_stride: int(OP, "stride", strides[3])?,
        difference: address_of(change),
        from: address_of(from),
        from_stride: int(OP, "stride", strides[4])?,
        reserved: 0,
    };
    let addresses = operands.map(address_of);
    for address in addresses.into_iter().chain(params.weight) {
        expect_aligned(OP, "operand", address)?;
    }
    let entry = format!("gemm_{}_{}", tiling.tile.name(), end(activation, change.is_some()));
    cuda.note_input(OP, params.a, [rows, k, a.stride()])?;
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch(&entry, tiling.launch(OP)?.doing(work), &params)
}

/// Fails unless the kernel can read the gates: of one table, 16 bytes at a time.
fn expect_gates(gates: [Option<ModulationVector<'_>>; 2]) -> Result<()> {
    if let [Some(first), Some(second)] = gates {
        let address =
            |gate: ModulationVector<'_>| (gate.table.cuda_address(), gate.step.cuda_address());
        expect(OP, "gates", address(first) == address(second), || {
            ("one table and one counter for all segments".into(), "two".into())
        })?;
    }
    for gate in gates.into_iter().flatten() {
        expect_multiple_of_8(OP, "gate's column", gate.column)?;
        expect_multiple_of_8(OP, "gate's table", gate.table.shape()[1])?;
    }
    Ok(())
}

/// What an entry's name ends with. A difference comes without an activation alone.
fn end(activation: Activation, difference: bool) -> &'static str {
    match activation {
        Activation::None if difference => "difference",
        Activation::None => "none",
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_tanh",
        Activation::QuickGelu => "quick_gelu",
    }
}

/// The tiles that there is an entry of: embedders and CLIP have few rows, so SiLU and quick-GELU
/// come in the smallest alone.
fn suits(activation: Activation) -> &'static [Tile] {
    match activation {
        Activation::None | Activation::GeluTanh => &[Tile::T64x64, Tile::T128x128, Tile::T128x256],
        Activation::Silu | Activation::QuickGelu => &[Tile::T64x64],
    }
}
