//! Oracle of `layernorm`.

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::ops::cpu::for_each_row;

pub(crate) fn layernorm(
    out: &mut MatrixMut<'_, Act>,
    x: Matrix<'_, Act>,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) {
    for_each_row(out, |row, values| {
        normalize(values, x.row(row), f64::from(eps));
        for ((value, weight), bias) in values.iter_mut().zip(weight).zip(bias) {
            *value = *value * weight + bias;
        }
    });
}

/// `out = (x - mean) / sqrt(variance + eps)`, statistics in f64.
#[expect(clippy::cast_possible_truncation, reason = "the statistics are f64, the result f32")]
pub(crate) fn normalize(out: &mut [f32], x: &[f32], eps: f64) {
    let count = x.len() as f64;
    let mean = x.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = x.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    let inverse = 1.0 / (variance + eps).sqrt();
    for (out, &value) in out.iter_mut().zip(x) {
        *out = ((f64::from(value) - mean) * inverse) as f32;
    }
}
