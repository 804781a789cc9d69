//! Oracle of `branch`.

use crate::error::Result;

pub(in crate::ops) fn branch<S: ?Sized>(
    decision: &[u32],
    state: &mut S,
    hit: impl FnOnce(&mut S) -> Result<()>,
    compute: impl FnOnce(&mut S) -> Result<()>,
) -> Result<()> {
    if decision[0] != 0 { hit(state) } else { compute(state) }
}
