//! Oracle of `add_scaled`.

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::ops::cpu::for_each_row;

pub(in crate::ops) fn add_scaled(
    out: &mut MatrixMut<'_, Act>,
    a: Matrix<'_, Act>,
    b: Matrix<'_, Act>,
    scale: f32,
) {
    for_each_row(out, |row, values| {
        for ((value, a), b) in values.iter_mut().zip(a.row(row)).zip(b.row(row)) {
            *value = a + scale * b;
        }
    });
}
