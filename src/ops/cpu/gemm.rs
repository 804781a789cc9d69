//! Oracle of `gemm`: the product through the `gemm` crate, the epilogue as a loop over rows.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::host_gemm::Sum;
use crate::device::host_gemm::Transpose;
use crate::device::host_gemm::host_gemm;
use crate::ops::cpu::for_each_row;
use crate::ops::cpu::gelu_tanh;
use crate::ops::cpu::quantize::dequantize;
use crate::ops::cpu::silu;
use crate::ops::gemm::Activation;
use crate::ops::gemm::Segment;
use crate::ops::gemm::Weight;

/// Rows of a bf16 or e4m3 weight matrix that are widened to f32 at a time: 512 rows of FLUX's K = 15,360
/// are 31 MB, small beside the matrix and large enough for the product to run at full speed.
const WIDEN_ROWS: usize = 512;

pub(crate) fn gemm(
    mut out: MatrixMut<'_, Act>,
    a: Matrix<'_, Act>,
    residual: Option<Matrix<'_, Act>>,
    segment: &Segment<'_>,
    activation: Activation,
) {
    let [_, n] = out.shape();
    product(&mut out, a, &segment.linear.weight, 0..n);
    let bias = segment.linear.bias.as_ref().map(|bias| bias.host());
    let gate = segment.gate.map(|gate| gate.host(n));
    for_each_row(&mut out, |row, values| {
        if let Some(bias) = bias {
            values.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
        if let Some(gate) = gate {
            values.iter_mut().zip(gate).for_each(|(value, gate)| *value *= gate);
        }
        if let Some(residual) = &residual {
            values.iter_mut().zip(residual.row(row)).for_each(|(value, old)| *value += old);
        }
        activate(values, activation);
    });
}

/// `out [M, N] = a [M, K] W[n_rows]^T`, `n_rows` being N rows of the weight matrix.
pub(crate) fn product(
    out: &mut MatrixMut<'_, Act>,
    a: Matrix<'_, Act>,
    weight: &Weight,
    n_rows: Range<usize>,
) {
    let a = Matrix::<f32>::from(a);
    let Weight::Part(part) = weight else {
        let [_, k] = weight.shape();
        return whole_product(out, a, weight, [n_rows, 0..k], Sum::New);
    };
    let [m, k] = a.shape();
    let mut first = 0;
    for rows in part.rows.ranges(n_rows) {
        let columns = first..first + rows.len();
        let mut out = out.reborrow().rows(0..m).columns(columns);
        let (mut from, mut sum) = (0, Sum::New);
        for columns in part.columns.ranges(0..k) {
            let a = a.columns(from..from + columns.len());
            from += columns.len();
            whole_product(&mut out, a, &part.of, [rows.clone(), columns], sum);
            sum = Sum::Add;
        }
        first += rows.len();
    }
}

/// `out [M, N] = a [M, K] W[rows, columns]^T`, or that added, of a weight that is no part.
fn whole_product(
    out: &mut MatrixMut<'_, Act>,
    a: Matrix<'_, f32>,
    weight: &Weight,
    [rows, columns]: [Range<usize>; 2],
    sum: Sum,
) {
    match weight {
        Weight::F32(weight) => {
            let weight = weight.matrix().rows(rows).columns(columns);
            host_gemm(&mut out.as_f32(), a, weight, Transpose::Yes, 1.0, sum);
        }
        Weight::Bf16(weight) => {
            let weight = weight.matrix().columns(columns);
            widened(out, a, rows, sum, |rows, wide| {
                let [_, k] = weight.shape();
                for (row, wide) in rows.zip(wide.chunks_exact_mut(k)) {
                    weight.row(row).convert_to_f32_slice(wide);
                }
            });
        }
        Weight::Fp8(weight) => {
            let weight = weight.view().columns(columns);
            widened(out, a, rows, sum, |rows, wide| dequantize(wide, &weight.rows(rows)));
        }
        Weight::Part(_) => unreachable!("a part's whole is none"),
    }
}

/// [`whole_product`] with a weight matrix that `widen` writes as f32, some rows at a time.
fn widened(
    out: &mut MatrixMut<'_, Act>,
    a: Matrix<'_, f32>,
    n_rows: Range<usize>,
    sum: Sum,
    widen: impl Fn(Range<usize>, &mut [f32]),
) {
    let [m, k] = a.shape();
    let mut wide = vec![0.0; WIDEN_ROWS.min(n_rows.len()) * k];
    for start in n_rows.clone().step_by(WIDEN_ROWS) {
        let end = n_rows.end.min(start + WIDEN_ROWS);
        let wide = &mut wide[..(end - start) * k];
        widen(start..end, wide);
        let columns = start - n_rows.start..end - n_rows.start;
        let mut block = out.reborrow().rows(0..m).columns(columns);
        let wide = Matrix::<f32>::new(wide, end - start, k);
        host_gemm(&mut block.as_f32(), a, wide, Transpose::Yes, 1.0, sum);
    }
}

/// Applies the activation in place.
pub(crate) fn activate(values: &mut [f32], activation: Activation) {
    let function: fn(f32) -> f32 = match activation {
        Activation::None => return,
        Activation::Silu => silu,
        Activation::GeluTanh => gelu_tanh,
        Activation::QuickGelu => |x| x / (1.0 + (-1.702 * x).exp()),
    };
    values.iter_mut().for_each(|value| *value = function(*value));
}
