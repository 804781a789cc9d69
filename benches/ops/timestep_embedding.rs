//! `timestep_embedding`: 28 steps.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::model::config::FluxConfig;
use flux_rt::ops::timestep_embedding::timestep_embedding;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let (steps, width) = (28, FluxConfig::SINUSOID_WIDTH);
    let work = Work { values: steps * width, bytes: 4 * steps, ..Work::default() };
    bench.case("timestep_embedding", &format!("{steps}x{width}"), work, |device| {
        // Times of 0 to 1000: how far the cosine reduces its angle depends on it.
        let mut number = crate::numbers(1);
        let values = crate::tiled(device, [steps], || 500.0 * (number() + 1.0))?;
        let mut out = Tensor::<Act, 2>::empty(device, [steps, width])?;
        Ok(move || timestep_embedding(out.matrix_mut(), &values))
    });
}
