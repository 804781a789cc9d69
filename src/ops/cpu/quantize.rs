//! Oracle of the quantising that kernels do as they finish: `ops/quantize.rs`.

use crate::device::Act;
use crate::device::Input;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Output;
use crate::device::QuantizedMut;
use crate::device::QuantizedRef;
use crate::device::Scaling;
use crate::device::Tensor;
use crate::device::e4m3;
use crate::ops::cpu::for_each_row;

/// A scale for magnitudes up to `largest`.
fn scale(largest: f32) -> f32 {
    largest.max(1e-12) / e4m3::MAX
}

/// `out [M, K]` from `x [M, K]`.
pub(crate) fn quantize(
    mut out: QuantizedMut<'_>,
    x: Matrix<'_, Act>,
    units: Option<&Tensor<f32, 1>>,
) {
    let units = units.map(Tensor::host);
    let divided = |row: usize, column: usize| {
        let x = x.row(row)[column];
        units.map_or(x, |units| x / units[column])
    };
    let [rows, width] = x.shape();
    if out.scaling == Scaling::Row {
        let scales = out.scales.row_mut(0);
        for (row, to) in scales.iter_mut().enumerate().take(rows) {
            *to = scale((0..width).fold(0.0, |most, column| most.max(divided(row, column).abs())));
        }
    }
    let scales = out.scales.as_ref();
    for_each_row(&mut out.values, |row, values| {
        e4m3::narrow(values, x.row(row), units, scales.row(0)[row]);
    });
}

/// The numbers that a quantised `[M, K]` matrix stands for.
pub(crate) fn dequantize(wide: &mut [f32], x: &QuantizedRef<'_>) {
    let [rows, width] = x.shape();
    for_each_row(&mut MatrixMut::<f32>::new(wide, rows, width), |row, wide| {
        e4m3::widen(wide, x.values.row(row), x.scales.row(0)[row]);
    });
}

/// Calls `body` with the numbers that a linear layer multiplies.
pub(crate) fn with_input<R>(input: &Input<'_>, body: impl FnOnce(Matrix<'_, Act>) -> R) -> R {
    match input {
        Input::Act(matrix) => body(*matrix),
        Input::Fp8(matrix) => {
            let [rows, width] = matrix.shape();
            let mut wide = vec![0.0; rows * width];
            dequantize(&mut wide, matrix);
            body(Matrix::new(&wide, rows, width))
        }
    }
}

/// Calls `body` with a matrix to write, and quantises what it wrote where that is asked for.
pub(crate) fn with_output(out: Output<'_>, body: impl FnOnce(MatrixMut<'_, Act>)) {
    match out {
        Output::Act(matrix) => body(matrix),
        Output::Fp8 { out: matrix, units, .. } => {
            let [rows, width] = matrix.shape();
            let mut wide = vec![0.0; rows * width];
            body(MatrixMut::new(&mut wide, rows, width));
            quantize(matrix, Matrix::new(&wide, rows, width), units);
        }
    }
}
