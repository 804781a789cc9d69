//! `layernorm`: 77 tokens at CLIP-L's width.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::layernorm::layernorm;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let (seq, hidden) = (77, 768);
    let work = Work { values: 2 * seq * hidden, bytes: 8 * hidden, ..Work::default() };
    bench.case("layernorm", "77x768", work, |device| {
        let x: Tensor<Act, 2> = crate::random(device, [seq, hidden], 1)?;
        let weight = crate::random(device, [hidden], 2)?;
        let bias = crate::random(device, [hidden], 3)?;
        let mut out = Tensor::<Act, 2>::empty(device, [seq, hidden])?;
        Ok(move || layernorm(out.matrix_mut(), x.matrix(), &weight, &bias, 1e-5))
    });
}
