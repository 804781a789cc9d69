//! `timestamp`: the beginning of a step.

use flux_rt::device::Tensor;
use flux_rt::ops::timestamp::Edge;
use flux_rt::ops::timestamp::timestamp;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let work = Work { bytes: 12, ..Work::default() };
    bench.case("timestamp", "28 steps", work, |device| {
        let mut stamps = Tensor::empty(device, [28, 4])?;
        let step = crate::step(device, 13)?;
        Ok(move || timestamp(&mut stamps, &step, Edge::Begin))
    });
}
