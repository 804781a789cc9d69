//! `gated_gelu`: 512 tokens at T5-XXL's width.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::gated_gelu::gated_gelu;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let (seq, width) = (512, 10_240);
    let work = Work { values: 3 * seq * width, ..Work::default() };
    bench.case("gated_gelu", "512x10240", work, |device| {
        let hidden: Tensor<Act, 2> = crate::random(device, [seq, 2 * width], 1)?;
        let mut out = Tensor::<Act, 2>::empty(device, [seq, width])?;
        Ok(move || gated_gelu(out.matrix_mut(), hidden.matrix()))
    });
}
