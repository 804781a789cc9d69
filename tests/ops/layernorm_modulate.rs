//! `layernorm_modulate` against plain loops in f64.

use flux_rt::device::Act;
use flux_rt::device::Quantized;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::ops::ModulationVector;
use flux_rt::ops::layernorm_modulate::ModulateSegment;
use flux_rt::ops::layernorm_modulate::layernorm_modulate;

use crate::at;
use crate::common::F32;
use crate::common::assert_close;
use crate::common::gpu;
use crate::layernorm::normalized;
use crate::narrow;
use crate::random;

#[test]
fn each_segment_has_its_own_vectors_and_step() {
    for (rows, hidden) in [([0, 1], 8), ([3, 5], 64), ([1, 2], 3072)] {
        let seq = rows[0] + rows[1];
        let x: Tensor<Act, 2> = random([seq, hidden], 1);
        let columns = 4 * hidden + 3;
        let table: Tensor<Act, 2> = random([4, columns], 2);
        let step = Tensor::from_host([1], vec![3u32]);
        let vector =
            |index| ModulationVector { table: &table, step: &step, column: 3 + index * hidden };
        let segments = [
            ModulateSegment { rows: 0..rows[0], shift: vector(0), scale: vector(1) },
            ModulateSegment { rows: rows[0]..seq, shift: vector(2), scale: vector(3) },
        ];
        let mut out = Tensor::zeros([seq, hidden]);
        layernorm_modulate(out.matrix_mut(), x.matrix(), &segments).unwrap();
        for row in 0..seq {
            let first = 3 + if row < rows[0] { 0 } else { 2 * hidden };
            let expected: Vec<f32> = normalized(x.matrix().row(row), 1e-6)
                .into_iter()
                .enumerate()
                .map(|(column, value)| {
                    let shift = at(table.host(), columns, 3, first + column);
                    let scale = at(table.host(), columns, 3, first + hidden + column);
                    narrow(value * (1.0 + scale) + shift)
                })
                .collect();
            assert_close("layernorm_modulate", out.matrix().row(row), &expected, F32);
        }
    }
}

#[test]
fn vectors_outside_the_table_are_refused() {
    let x: Tensor<Act, 2> = random([1, 8], 1);
    let table: Tensor<Act, 2> = random([1, 15], 2);
    let step = Tensor::from_host([1], vec![0u32]);
    let vector = |column| ModulationVector { table: &table, step: &step, column };
    let segments = [ModulateSegment { rows: 0..1, shift: vector(0), scale: vector(8) }];
    let mut out = Tensor::zeros([1, 8]);
    let error = layernorm_modulate(out.matrix_mut(), x.matrix(), &segments).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layernorm_modulate: modulation table has shape [1, 15], expected at least 16 columns"
    );
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for (index, [seq, hidden, pad]) in gpu.norm_shapes().into_iter().enumerate() {
        // One segment, or two of ragged sizes.
        let split = [seq, seq / 3, 0][index % 3];
        // Whole vectors of eight, or none.
        let first = [8, 3][index / 3 % 2];
        gpu.agrees(&format!("{split} of {seq} x {hidden}, {pad}, {first}"), gpu::BF16, |device| {
            let x = gpu::act(device, gpu::around([seq, hidden], pad), 1);
            let table = gpu::act(device, [4, first + 4 * hidden], 2);
            let step = gpu::to(device, Tensor::from_host([1], vec![3u32]));
            let vector = |index: usize| ModulationVector {
                table: &table,
                step: &step,
                column: first + index * hidden,
            };
            let segments = [
                ModulateSegment { rows: 0..split, shift: vector(0), scale: vector(1) },
                ModulateSegment { rows: split..seq, shift: vector(2), scale: vector(3) },
            ];
            let count = if split == seq { 1 } else { 2 };
            let mut out = gpu::framed(device, [seq, hidden], pad);
            let view = gpu::inside_mut(&mut out, pad);
            layernorm_modulate(view, gpu::inside(&x, pad), &segments[..count]).unwrap();
            gpu::unframed(out, pad)
        });
    }
}

#[test]
fn cuda_quantises_as_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for (index, [seq, hidden, _]) in gpu.norm_shapes().into_iter().enumerate() {
        let split = [seq, seq / 3, 0][index % 3];
        let first = [8, 3][index / 3 % 2];
        gpu.agrees_in_fp8(&format!("{split} of {seq} x {hidden}, {first}"), |device| {
            let x = gpu::act(device, [seq, hidden], 1);
            let table = gpu::act(device, [4, first + 4 * hidden], 2);
            let step = gpu::to(device, Tensor::from_host([1], vec![3u32]));
            let vector = |index: usize| ModulationVector {
                table: &table,
                step: &step,
                column: first + index * hidden,
            };
            let segments = [
                ModulateSegment { rows: 0..split, shift: vector(0), scale: vector(1) },
                ModulateSegment { rows: split..seq, shift: vector(2), scale: vector(3) },
            ];
            let count = if split == seq { 1 } else { 2 };
            let out = Quantized::zeros([seq, hidden], Scaling::Row);
            let mut out = out.to_device(device).unwrap();
            layernorm_modulate(out.view_mut(), x.matrix(), &segments[..count]).unwrap();
            out
        });
    }
}
