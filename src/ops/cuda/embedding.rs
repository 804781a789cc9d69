//! Launcher of `embedding`: a block a row.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::gemm::bf16_weight;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;
use crate::ops::expect;
use crate::ops::gemm::Weight;

const OP: &str = "embedding";

kernel_params!(Params, 48, {
    0 out: u64,
    8 ids: u64,
    16 table: u64,
    24 positions: u64,
    32 rows: i32,
    36 columns: i32,
    40 out_stride: i32,
    44 vocabulary: i32,
});

pub(crate) fn embedding(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    ids: &Tensor<u32, 1>,
    table: &Weight,
    positions: Option<&Weight>,
) -> Result<()> {
    let [rows, columns] = out.shape();
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let [vocabulary, _] = table.shape();
    // The kernel reads the last row for an id that it cannot find: there must be one.
    expect(OP, "table", vocabulary > 0, || ("at least one row".into(), "none".into()))?;
    let params = Params {
        out: out.as_ref().cuda_address(),
        ids: ids.cuda_address(),
        table: bf16_weight(OP, table)?,
        positions: positions.map_or(Ok(0), |positions| bf16_weight(OP, positions))?,
        rows: int(OP, "S", rows)?,
        columns: int(OP, "D", columns)?,
        out_stride: int(OP, "stride", out.stride())?,
        vocabulary: int(OP, "V", vocabulary)?,
    };
    let work = Work::Bytes(4 * rows * columns);
    // One vector of eight a thread, as far as that goes: the row is fetched in one go.
    let threads = int(OP, "D", columns.div_ceil(8).next_multiple_of(32).min(512))?.unsigned_abs();
    cuda.launch(OP, linear_grid(blocks(OP, rows, 1)?, threads).doing(work), &params)
}
