//! Launcher of `layernorm_modulate`: a block a row, one launch for one or two segments.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Matrix;
use crate::device::Output;
use crate::device::Scaling;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::gemm::pair;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;
use crate::ops::expect;
use crate::ops::layernorm_modulate::EPS;
use crate::ops::layernorm_modulate::ModulateSegment;

const OP: &str = "layernorm_modulate";

#[expect(clippy::cast_possible_truncation, reason = "kernels compute in f32")]
const EPS_F32: f32 = EPS as f32;

kernel_params!(Params, 88, {
    0 out: u64,
    8 x: u64,
    16 table: u64,
    24 step: u64,
    32 scales: u64,
    40 rows: i32,
    44 split: i32,
    48 columns: i32,
    52 out_stride: i32,
    56 x_stride: i32,
    60 table_stride: i32,
    64 shift_column: [i32; 2],
    72 scale_column: [i32; 2],
    80 eps: f32,
    84 round_like_diffusers: i32,
});

pub(crate) fn layernorm_modulate(
    cuda: &Arc<Cuda>,
    out: &Output<'_>,
    x: Matrix<'_, Act>,
    segments: &[ModulateSegment<'_>],
) -> Result<()> {
    let [rows, columns] = x.shape();
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let pair = pair(OP, segments)?;
    let [table, step] = [pair[0].shift.table.cuda_address(), pair[0].shift.step.cuda_address()];
    // The kernel takes one table and one counter for all four vectors.
    for vector in pair.iter().flat_map(|segment| [segment.shift, segment.scale]) {
        let same = vector.table.cuda_address() == table && vector.step.cuda_address() == step;
        expect(OP, "modulation table", same, || {
            ("one table and step for all vectors".into(), "several".into())
        })?;
    }
    let (entry, address, stride, scales, bytes) = match out {
        Output::Act(out) => (OP, out.as_ref().cuda_address(), out.stride(), 0, 2),
        Output::Fp8 { out, .. } => {
            let one = out.scaling == Scaling::Row;
            expect(OP, "out", one, || ("a scale for a row".into(), "scales of blocks".into()))?;
            let scales = out.scales.as_ref().cuda_address();
            let values = &out.values;
            let entry = match cuda.has_fp8() {
                true => "layernorm_modulate_fp8_sm89",
                false => "layernorm_modulate_fp8",
            };
            (entry, values.as_ref().cuda_address(), values.stride(), scales, 1)
        }
    };
    let [first_shift, second_shift] = pair.map(|segment| int(OP, "shift", segment.shift.column));
    let [first_scale, second_scale] = pair.map(|segment| int(OP, "scale", segment.scale.column));
    let params = Params {
        out: address,
        x: x.cuda_address(),
        table,
        step,
        scales,
        rows: int(OP, "S", rows)?,
        split: int(OP, "S", pair[0].rows.end)?,
        columns: int(OP, "D", columns)?,
        out_stride: int(OP, "stride", stride)?,
        x_stride: int(OP, "stride", x.stride())?,
        table_stride: int(OP, "modulation table", pair[0].shift.table.shape()[1])?,
        shift_column: [first_shift?, second_shift?],
        scale_column: [first_scale?, second_scale?],
        eps: EPS_F32,
        round_like_diffusers: cuda.round_like_diffusers(),
    };
    let work = Work::Bytes((2 + bytes) * rows * columns);
    cuda.launch(entry, linear_grid(blocks(OP, rows, 1)?, 128).doing(work), &params)
}
