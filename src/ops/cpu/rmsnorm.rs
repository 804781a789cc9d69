//! Oracle of `rmsnorm`.

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::ops::cpu::for_each_row;
use crate::ops::cpu::sum_of_squares;

#[expect(clippy::cast_possible_truncation, reason = "the statistic is f64, the result f32")]
pub(crate) fn rmsnorm(out: &mut MatrixMut<'_, Act>, x: Matrix<'_, Act>, weight: &[f32], eps: f32) {
    for_each_row(out, |row, values| {
        let x = x.row(row);
        let mean = sum_of_squares(x) / x.len() as f64;
        let inverse = (1.0 / (mean + f64::from(eps)).sqrt()) as f32;
        for ((value, x), weight) in values.iter_mut().zip(x).zip(weight) {
            *value = x * inverse * weight;
        }
    });
}
