//! Oracles of `taylor_update` and `taylor_forecast`.

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::ops::cpu::for_each_row;
use crate::ops::taylor::FIRST_QUOTIENT_STEP;
use crate::ops::taylor::TaylorSeries;

pub(in crate::ops) fn taylor_update(
    series: &mut TaylorSeries,
    before: Matrix<'_, Act>,
    after: Matrix<'_, Act>,
    step: u32,
) {
    let [orders, rows, _] = series.quotients.shape();
    let &[last, known] = series.clock.host() else { return };
    let gap = (step - last) as f32;
    // An order needs the one below it of the step before, as it was then.
    let fresh = match step >= FIRST_QUOTIENT_STEP {
        true => orders.min(known as usize + 1),
        false => 1,
    };
    for row in 0..rows {
        let effect =
            before.row(row).iter().zip(after.row(row)).map(|(before, after)| after - before);
        let mut value: Vec<f32> = effect.collect();
        for order in 0..fresh {
            let stored = &mut series.quotients.matrix_mut();
            let stored = stored.row_mut(order * rows + row);
            let next: Vec<f32> =
                value.iter().zip(&*stored).map(|(new, old)| (new - old) / gap).collect();
            stored.copy_from_slice(&value);
            value = next;
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most one more than before")]
    series.clock.host_mut().copy_from_slice(&[step, fresh as u32]);
}

pub(in crate::ops) fn taylor_forecast(
    out: &mut MatrixMut<'_, Act>,
    before: Matrix<'_, Act>,
    series: &TaylorSeries,
    first_row: usize,
    step: u32,
) {
    let [_, rows, _] = series.quotients.shape();
    let &[last, known] = series.clock.host() else { return };
    let elapsed = (step - last) as f32;
    let quotients = series.quotients.matrix();
    for_each_row(out, |row, values| {
        values.copy_from_slice(before.row(row));
        let mut factor = 1.0;
        for order in 0..known as usize {
            let quotient = quotients.row(order * rows + first_row + row);
            values
                .iter_mut()
                .zip(quotient)
                .for_each(|(value, quotient)| *value += factor * quotient);
            factor *= elapsed / (order + 1) as f32;
        }
    });
}
