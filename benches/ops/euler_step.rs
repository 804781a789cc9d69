//! `euler_step`: the latents of a 1024 x 1024 image.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::euler_step::LatentRounding;
use flux_rt::ops::euler_step::euler_step;

use crate::Bench;
use crate::Work;

/// More steps than there are iterations: behind the last step the op does nothing.
const LEVELS: usize = 1 << 22;

pub(crate) fn run(bench: &mut Bench) {
    let shape = [4096, 64];
    let work = Work { values: 3 * shape[0] * shape[1], bytes: 16, ..Work::default() };
    bench.case("euler_step", "4096x64", work, |device| {
        let mut latents: Tensor<Act, 2> = crate::random(device, shape, 1)?;
        let velocity: Tensor<Act, 2> = crate::random(device, shape, 2)?;
        // Differences of numbers in [-1, 1) add up to less than 2, so the latents stay small.
        let sigmas = crate::random(device, [LEVELS], 3)?;
        let mut step = crate::step(device, 0)?;
        let rounding = LatentRounding::F32;
        Ok(move || euler_step(&mut latents, &velocity, &sigmas, &mut step, rounding))
    });
}
