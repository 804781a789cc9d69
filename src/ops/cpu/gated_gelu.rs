//! Oracle of `gated_gelu`.

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::ops::cpu::for_each_row;
use crate::ops::cpu::gelu_tanh;

pub(crate) fn gated_gelu(out: &mut MatrixMut<'_, Act>, hidden: Matrix<'_, Act>) {
    for_each_row(out, |row, values| {
        let (gated, linear) = hidden.row(row).split_at(values.len());
        for ((value, &gated), linear) in values.iter_mut().zip(gated).zip(linear) {
            *value = gelu_tanh(gated) * linear;
        }
    });
}
