//! `noise`: the initial latents of a 1024 x 1024 image.

use criterion::Criterion;
use flux_rt::device::Tensor;
use flux_rt::ops::noise::Grid;
use flux_rt::ops::noise::NoiseDtype;
use flux_rt::ops::noise::NoiseSource;
use flux_rt::ops::noise::noise;

pub(crate) fn run(criterion: &mut Criterion) {
    let mut out = Tensor::zeros([1, 16, 128, 128]);
    let source = NoiseSource::TorchCuda { grid: Grid::H100, dtype: NoiseDtype::Bf16 };
    crate::bench(criterion, "noise", 16 * 128 * 128, || {
        noise(&mut out, source, 42).expect("fits");
    });
}
