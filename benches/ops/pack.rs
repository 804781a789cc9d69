//! `pack`: the latents of a 1024 x 1024 image, to tokens and back for the decoder.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::pack::pack;
use flux_rt::ops::pack::unpack;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let (tokens, width) = (4096, 64);
    let count = tokens * width;
    // The noise is f32.
    let work = Work { values: count, bytes: 4 * count, ..Work::default() };
    bench.case("pack", "pack 4096x64", work, |device| {
        let latents: Tensor<f32, 3> = crate::random(device, [16, 128, 128], 1)?;
        let mut out = Tensor::empty(device, [tokens, width])?;
        Ok(move || pack(&mut out, &latents))
    });
    let work = Work { values: 2 * count, ..Work::default() };
    bench.case("pack", "unpack 4096x64", work, |device| {
        let packed: Tensor<Act, 2> = crate::random(device, [tokens, width], 1)?;
        let mut out = Tensor::empty(device, [128, 128, 16])?;
        Ok(move || unpack(&mut out, &packed, 0.3611, 0.1159))
    });
}
