//! Oracle of the quantising that kernels do as they finish: e4m3 with a scale for each row and block
//! of columns, `scale = max(largest magnitude, 1e-12) / 448`, `value = x / scale` to the nearest.

use std::ops::Range;

use crate::device::Act;
use crate::device::Input;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Output;
use crate::device::QuantizedMut;
use crate::device::QuantizedRef;
use crate::device::Scaling;
use crate::device::e4m3;
use crate::device::quantized::BLOCK;
use crate::ops::cpu::for_each_row;

/// A scale for magnitudes up to `largest`.
pub(super) fn scale(largest: f32) -> f32 {
    largest.max(1e-12) / e4m3::MAX
}

/// The largest magnitude; NaN does not count, and stays NaN by itself.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// The columns of scale `index`.
fn columns(scaling: Scaling, index: usize, width: usize) -> Range<usize> {
    match scaling {
        Scaling::Row => 0..width,
        Scaling::Block => index * BLOCK..width.min((index + 1) * BLOCK),
    }
}

/// `out [M, K]` from `x [M, K]`.
pub(crate) fn quantize(mut out: QuantizedMut<'_>, x: Matrix<'_, Act>) {
    let [_, width] = x.shape();
    let scaling = out.scaling;
    for_each_row(&mut out.scales, |index, scales| {
        for (row, to) in scales.iter_mut().enumerate() {
            *to = scale(largest(&x.row(row)[columns(scaling, index, width)]));
        }
    });
    let scales = out.scales.as_ref();
    let [count, _] = scales.shape();
    for_each_row(&mut out.values, |row, values| {
        for index in 0..count {
            let (columns, scale) = (columns(scaling, index, width), scales.row(index)[row]);
            for (value, x) in values[columns.clone()].iter_mut().zip(&x.row(row)[columns]) {
                *value = e4m3::from_f32(x / scale);
            }
        }
    });
}

/// The numbers that a quantised `[M, K]` matrix stands for.
pub(crate) fn dequantize(wide: &mut [f32], x: &QuantizedRef<'_>) {
    let [rows, width] = x.shape();
    let table: Vec<f32> = (0..=u8::MAX).map(e4m3::to_f32).collect();
    let [count, _] = x.scales.shape();
    for_each_row(&mut MatrixMut::<f32>::new(wide, rows, width), |row, wide| {
        for index in 0..count {
            let (columns, scale) = (columns(x.scaling, index, width), x.scales.row(index)[row]);
            let values = &x.values.row(row)[columns.clone()];
            for (wide, &byte) in wide[columns].iter_mut().zip(values) {
                *wide = table[usize::from(byte)] * scale;
            }
        }
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
        Output::Fp8 { out: matrix, .. } => {
            let [rows, width] = matrix.shape();
            let mut wide = vec![0.0; rows * width];
            body(MatrixMut::new(&mut wide, rows, width));
            quantize(matrix, Matrix::new(&wide, rows, width));
        }
    }
}
