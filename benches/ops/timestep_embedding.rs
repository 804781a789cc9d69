//! `timestep_embedding`: 28 steps.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::model::config::FluxConfig;
use flux_rt::ops::timestep_embedding::timestep_embedding;

pub(crate) fn run(criterion: &mut Criterion) {
    let steps = 28;
    let values = crate::random([steps], 1);
    let mut out = Tensor::<Act, 2>::zeros([steps, FluxConfig::SINUSOID_WIDTH]);
    crate::bench(criterion, "timestep_embedding", steps * FluxConfig::SINUSOID_WIDTH, || {
        timestep_embedding(out.matrix_mut(), &values).expect("fits");
    });
}
