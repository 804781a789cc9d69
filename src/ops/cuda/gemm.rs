//! Launcher of `gemm`: one launch for one or two segments.

pub(super) mod fp8;
pub(super) mod layout;
mod sm89;
pub(super) mod sm90;

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Input;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Output;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::ModulationVector;
use crate::ops::cuda::add_scaled::add_scaled;
use crate::ops::cuda::expect_aligned;
use crate::ops::cuda::expect_multiple_of_8;
use crate::ops::cuda::gemm::layout::Columns;
use crate::ops::cuda::gemm::layout::expect_first_rows;
use crate::ops::cuda::gemm::layout::whole;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::quantize::through_staging;
use crate::ops::cuda::tile;
use crate::ops::cuda::tile::Tile;
use crate::ops::expect;
use crate::ops::gemm::Activation;
use crate::ops::gemm::Difference;
use crate::ops::gemm::Segment;
use crate::ops::gemm::Weight;

const OP: &str = "gemm";

kernel_params!(Params, 160, {
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
    148 gap_at: i32,
    152 gap: i32,
    156 reserved: i32,
});

/// The weight's elements, which tensor cores take as bf16.
pub(super) fn bf16_weight(op: &'static str, weight: &Weight) -> Result<u64> {
    match weight {
        Weight::Bf16(tensor) => Ok(tensor.cuda_address()),
        weight => {
            let found = match weight {
                Weight::F32(_) => "f32",
                Weight::Part(_) => "a part of another",
                _ => "e4m3",
            };
            expect(op, "weight", false, || ("bf16 on CUDA".into(), found.into()))?;
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

fn stride_of(operand: Option<Matrix<'_, Act>>) -> usize {
    operand.map_or(0, |operand| operand.stride())
}

/// The first one or two segments and where they meet; one segment is split from nothing.
pub(super) fn pair<'s, S>(op: &'static str, segments: &'s [S]) -> Result<[&'s S; 2]> {
    expect(op, "segments", matches!(segments.len(), 1 | 2), || {
        ("1 or 2 row ranges".into(), segments.len().to_string())
    })?;
    Ok([&segments[0], &segments[segments.len() - 1]])
}

/// A checked product: what every kernel of it needs.
pub(super) struct Product<'a> {
    pub(super) out: Matrix<'a, Act>,
    pub(super) difference: Option<[Matrix<'a, Act>; 2]>,
    pub(super) a: Matrix<'a, Act>,
    pub(super) residual: Option<Matrix<'a, Act>>,
    /// Rows of the first segment.
    pub(super) split: usize,
    pub(super) weight: [u64; 2],
    /// Of both weights.
    pub(super) weight_columns: Columns,
    pub(super) bias: [u64; 2],
    pub(super) gate_table: u64,
    pub(super) step: u64,
    pub(super) gate_stride: i32,
    pub(super) gate_column: [i32; 2],
    pub(super) activation: Activation,
}

impl<'a> Product<'a> {
    fn new(
        out: Matrix<'a, Act>,
        difference: Option<[Matrix<'a, Act>; 2]>,
        a: Matrix<'a, Act>,
        residual: Option<Matrix<'a, Act>>,
        segments: &[Segment<'_>],
        activation: Activation,
    ) -> Result<Self> {
        let ([_, columns], [_, k]) = (out.shape(), a.shape());
        let pair = pair(OP, segments)?;
        let weights = pair.map(|segment| &segment.linear.weight);
        let [first_weight, second_weight] = weights.map(|weight| bf16_weight(OP, whole(weight)));
        let gates = Gates::of(pair)?;
        let product = Self {
            out,
            difference,
            a,
            residual,
            split: pair[0].rows.end,
            weight: [first_weight?, second_weight?],
            weight_columns: columns_of(pair)?,
            bias: biases(pair),
            gate_table: gates.table,
            step: gates.step,
            gate_stride: gates.stride,
            gate_column: gates.column,
            activation,
        };
        let strides = product.operands().map(stride_of);
        let Columns { stride, gap_at, gap } = product.weight_columns;
        for value in [columns, k, stride, gap_at, gap].into_iter().chain(strides) {
            expect_multiple_of_8(OP, "N, K, a gap or a row's stride", value)?;
        }
        for address in product.operands().map(address_of).into_iter().chain(product.weight) {
            expect_aligned(OP, "operand", address)?;
        }
        Ok(product)
    }

    fn operands(&self) -> [Option<Matrix<'a, Act>>; 5] {
        let [change, from] = self.difference.map_or([None; 2], |pair| pair.map(Some));
        [Some(self.out), Some(self.a), self.residual, change, from]
    }
}

/// Addresses of the biases, 0 for none.
fn biases(pair: [&Segment<'_>; 2]) -> [u64; 2] {
    pair.map(|segment| address_or_null(segment.linear.bias.as_ref()))
}

/// The columns of both weights, whose rows are first ones.
fn columns_of(pair: [&Segment<'_>; 2]) -> Result<Columns> {
    let weights = pair.map(|segment| &segment.linear.weight);
    for weight in weights {
        expect_first_rows(OP, weight)?;
    }
    Columns::of(OP, weights)
}

/// The gates of a product as kernels take them.
pub(super) struct Gates {
    /// Addresses, 0 where there are none.
    table: u64,
    step: u64,
    stride: i32,
    /// Negative where a segment has none.
    column: [i32; 2],
}

impl Gates {
    /// Of a product that has none.
    pub(super) const NONE: Self = Self { table: 0, step: 0, stride: 0, column: [-1; 2] };

    fn of(pair: [&Segment<'_>; 2]) -> Result<Self> {
        let gates = pair.map(|segment| segment.gate);
        expect_gates(gates)?;
        let gate = gates[0].or(gates[1]);
        let column = |gate: Option<ModulationVector<'_>>| {
            gate.map_or(Ok(-1), |gate| int(OP, "gate", gate.column))
        };
        Ok(Self {
            table: gate.map_or(0, |gate| gate.table.cuda_address()),
            step: gate.map_or(0, |gate| gate.step.cuda_address()),
            stride: int(OP, "gate", gate.map_or(0, |gate| gate.table.shape()[1]))?,
            column: [column(gates[0])?, column(gates[1])?],
        })
    }
}

/// A product whose operands are in whatever precision.
pub(crate) fn gemm(
    cuda: &Arc<Cuda>,
    out: &Output<'_>,
    difference: Option<Difference<'_>>,
    a: Input<'_>,
    residual: Option<Matrix<'_, Act>>,
    segments: &[Segment<'_>],
    activation: Activation,
) -> Result<()> {
    let [rows, columns] = out.shape();
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let a = match a {
        Input::Fp8(a) => a,
        Input::Act(a) => {
            return through_staging(cuda, OP, out, |out| {
                act_gemm(cuda, out, difference, a, residual, segments, activation)
            });
        }
    };
    let pair = pair(OP, segments)?;
    let [first, second] = pair.map(|segment| fp8::fp8_weight(OP, &segment.linear.weight));
    fp8::gemm(
        cuda,
        &fp8::Fp8Product {
            out,
            a,
            residual,
            split: pair[0].rows.end,
            weight: [first?, second?],
            weight_columns: columns_of(pair)?,
            bias: biases(pair),
            gates: Gates::of(pair)?,
            activation,
        },
    )?;
    match (difference, out) {
        (Some(Difference { out: change, from }), Output::Act(out)) => {
            add_scaled(cuda, &change, out.as_ref(), from, -1.0)
        }
        _ => Ok(()),
    }
}

/// Of activations.
fn act_gemm(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    difference: Option<Difference<'_>>,
    a: Matrix<'_, Act>,
    residual: Option<Matrix<'_, Act>>,
    segments: &[Segment<'_>],
    activation: Activation,
) -> Result<()> {
    let [rows, _] = out.shape();
    let [_, k] = a.shape();
    let pair = difference.as_ref().map(|change| [change.out.as_ref(), change.from]);
    let product = Product::new(out.as_ref(), pair, a, residual, segments, activation)?;
    cuda.note_input(OP, a.cuda_address(), [rows, k, a.stride()])?;
    if !sm90::gemm(cuda, &product)? {
        return portable(cuda, &product);
    }
    // On Hopper a pass of its own costs less than what its kernel is quicker.
    difference.map_or(Ok(()), |Difference { out: change, from }| {
        add_scaled(cuda, &change, out.as_ref(), from, -1.0)
    })
}

fn portable(cuda: &Arc<Cuda>, product: &Product<'_>) -> Result<()> {
    let ([rows, columns], [_, k]) = (product.out.shape(), product.a.shape());
    let split = product.split;
    let activation = product.activation;
    let tiling = tile::choose(cuda, [split, rows - split], &[columns], suits(activation));
    let [out, a, residual, difference, from] = product.operands().map(address_of);
    let strides = product.operands().map(|operand| int(OP, "stride", stride_of(operand)));
    let [out_stride, a_stride, residual_stride, difference_stride, from_stride] = strides;
    let params = Params {
        out,
        a,
        residual,
        weight: product.weight,
        bias: product.bias,
        gate_table: product.gate_table,
        step: product.step,
        rows: int(OP, "M", rows)?,
        split: int(OP, "M", split)?,
        columns: int(OP, "N", columns)?,
        k: int(OP, "K", k)?,
        out_stride: out_stride?,
        a_stride: a_stride?,
        residual_stride: residual_stride?,
        weight_stride: int(OP, "K", product.weight_columns.stride)?,
        gate_stride: product.gate_stride,
        gate_column: product.gate_column,
        raster_rows: tiling.raster_rows,
        round_like_diffusers: cuda.round_like_diffusers(),
        difference_stride: difference_stride?,
        difference,
        from,
        from_stride: from_stride?,
        gap_at: int(OP, "K", product.weight_columns.gap_at)?,
        gap: int(OP, "K", product.weight_columns.gap)?,
        reserved: 0,
    };
    let end = end(activation, product.difference.is_some());
    let entry = format!("gemm_{}_{end}", tiling.tile.name());
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
