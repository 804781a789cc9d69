//! Oracle of `layernorm_modulate`.

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::ops::cpu::for_each_row;
use crate::ops::cpu::layernorm::normalize;
use crate::ops::layernorm_modulate::EPS;
use crate::ops::layernorm_modulate::ModulateSegment;

pub(crate) fn layernorm_modulate(
    mut out: MatrixMut<'_, Act>,
    x: Matrix<'_, Act>,
    segment: &ModulateSegment<'_>,
) {
    let [_, hidden] = x.shape();
    let (shift, scale) = (segment.shift.host(hidden), segment.scale.host(hidden));
    for_each_row(&mut out, |row, values| {
        normalize(values, x.row(row), EPS);
        for ((value, scale), shift) in values.iter_mut().zip(scale).zip(shift) {
            *value = *value * (1.0 + scale) + shift;
        }
    });
}
