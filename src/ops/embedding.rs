//! Rows of a table by id, plus a learned position when there is one (CLIP).

use crate::device::Act;
use crate::device::Device;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect;
use crate::ops::expect_shape;
use crate::ops::gemm::Weight;

const OP: &str = "embedding";

/// `out [S, D] = table [V, D][ids [S]] + positions [P, D]`, S at most P.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together or an id is not in the table.
pub fn embedding(
    mut out: MatrixMut<'_, Act>,
    ids: &Tensor<u32, 1>,
    table: &Weight,
    positions: Option<&Weight>,
) -> Result<()> {
    let [vocab, hidden] = table.shape();
    let [seq] = ids.shape();
    expect_shape(OP, "out", out.shape(), [seq, hidden])?;
    if let Some(positions) = positions {
        let [longest, width] = positions.shape();
        expect(OP, "positions", width == hidden && longest >= seq, || {
            (format!("at least [{seq}, {hidden}]"), format!("[{longest}, {width}]"))
        })?;
    }
    if let Device::Cuda(cuda) = out.device() {
        // The host cannot look at the ids; tokenizer and vocabulary were compared at loading.
        return cuda::embedding::embedding(&cuda, &out, ids, table, positions);
    }
    if let Some(id) = ids.host().iter().find(|&&id| id as usize >= vocab) {
        expect(OP, "ids", false, || (format!("ids below {vocab}"), format!("{id}")))?;
    }
    cpu::embedding::embedding(&mut out, ids.host(), table, positions);
    Ok(())
}
