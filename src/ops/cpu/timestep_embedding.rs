//! Oracle of `timestep_embedding`.

use crate::device::Act;
use crate::device::MatrixMut;
use crate::ops::cpu::for_each_row;

/// ln(10000) in f32.
const LN_MAX_PERIOD: f32 = 9.210_340_4;

#[expect(clippy::cast_precision_loss, reason = "indices below 2^24 are exact in f32")]
pub(crate) fn timestep_embedding(out: &mut MatrixMut<'_, Act>, values: &[f32]) {
    for_each_row(out, |row, out| {
        let half = out.len() / 2;
        let (cos, sin) = out.split_at_mut(half);
        for (index, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
            let angle = values[row] * (-LN_MAX_PERIOD * index as f32 / half as f32).exp();
            *cos = angle.cos();
            *sin = angle.sin();
        }
    });
}
