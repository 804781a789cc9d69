//! Oracle of `embedding`.

use crate::device::Act;
use crate::device::MatrixMut;
use crate::ops::cpu::for_each_row;
use crate::ops::cpu::quantize::dequantize;
use crate::ops::gemm::Weight;

pub(crate) fn embedding(
    out: &mut MatrixMut<'_, Act>,
    ids: &[u32],
    table: &Weight,
    positions: Option<&Weight>,
) {
    for_each_row(out, |row, values| {
        values.fill(0.0);
        add_row(values, table, ids[row] as usize);
        if let Some(positions) = positions {
            add_row(values, positions, row);
        }
    });
}

fn add_row(values: &mut [f32], table: &Weight, row: usize) {
    match table {
        Weight::F32(table) => {
            values.iter_mut().zip(table.matrix().row(row)).for_each(|(value, x)| *value += x);
        }
        Weight::Bf16(table) => {
            let row = table.matrix().row(row);
            values.iter_mut().zip(row).for_each(|(value, x)| *value += x.to_f32());
        }
        Weight::Fp8(table) => {
            let mut wide = vec![0.0; values.len()];
            dequantize(&mut wide, &table.view().rows(row..row + 1));
            values.iter_mut().zip(wide).for_each(|(value, x)| *value += x);
        }
        Weight::Part(part) => {
            let [_, width] = part.of.shape();
            let mut whole = vec![0.0; width];
            for row in part.rows.ranges(row..row + 1).into_iter().flatten() {
                add_row(&mut whole, &part.of, row);
            }
            let columns = part.columns.ranges(0..values.len()).into_iter().flatten();
            values.iter_mut().zip(columns).for_each(|(value, column)| *value += whole[column]);
        }
    }
}
