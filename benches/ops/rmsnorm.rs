//! `rmsnorm`: 512 tokens at T5-XXL's width.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::rmsnorm::rmsnorm;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let (seq, hidden) = (512, 4096);
    let work = Work { values: 2 * seq * hidden, bytes: 4 * hidden, ..Work::default() };
    bench.case("rmsnorm", "512x4096", work, |device| {
        let x: Tensor<Act, 2> = crate::random(device, [seq, hidden], 1)?;
        let weight = crate::random(device, [hidden], 2)?;
        let mut out = Tensor::<Act, 2>::empty(device, [seq, hidden])?;
        Ok(move || rmsnorm(out.matrix_mut(), x.matrix(), &weight, 1e-6))
    });
}
