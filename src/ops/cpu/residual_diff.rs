//! Oracle of `residual_diff`: the relative difference. The table is `ops/residual_diff/rule.rs`.

use half::bf16;
use rayon::iter::IntoParallelIterator;
use rayon::iter::ParallelIterator;

use crate::device::Act;
use crate::device::Matrix;
use crate::ops::residual_diff::rule::Rounding;

/// `mean |reference - (after - before)| / mean |reference|`.
pub(in crate::ops) fn residual_diff(
    reference: Matrix<'_, Act>,
    before: Matrix<'_, Act>,
    after: Matrix<'_, Act>,
    rounding: Rounding,
) -> f32 {
    let round = |value: f32| match rounding {
        Rounding::Bf16 => bf16::from_f32(value).to_f32(),
        Rounding::F32 => value,
    };
    let row_sums = |row| {
        let rows = before.row(row).iter().zip(after.row(row));
        rows.zip(reference.row(row)).fold([0.0, 0.0], |sums: [f64; 2], ((before, after), old)| {
            // A residual is a tensor: in bf16 both are rounded before they are compared.
            let old = round(*old);
            let moved = round(old - round(after - before)).abs();
            [sums[0] + f64::from(moved), sums[1] + f64::from(old.abs())]
        })
    };
    let [rows, columns] = reference.shape();
    // Row by row, then over the rows in order: the same sums with any number of threads.
    let sums: Vec<[f64; 2]> = (0..rows).into_par_iter().map(row_sums).collect();
    let count = (rows * columns) as f64;
    let mean = |index: usize| {
        let sum: f64 = sums.iter().map(|pair| pair[index]).sum();
        #[expect(clippy::cast_possible_truncation, reason = "a mean of f32 values")]
        let mean = (sum / count) as f32;
        round(mean)
    };
    round(mean(0) / mean(1))
}
