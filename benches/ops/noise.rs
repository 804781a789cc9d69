//! `noise`: the initial latents of a 1024 x 1024 image.

use flux_rt::device::Tensor;
use flux_rt::ops::noise::Grid;
use flux_rt::ops::noise::NoiseDtype;
use flux_rt::ops::noise::NoiseSource;
use flux_rt::ops::noise::noise;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let work = Work { bytes: 4 * 16 * 128 * 128, ..Work::default() };
    bench.case("noise", "16x128x128", work, |device| {
        let mut out = Tensor::empty(device, [1, 16, 128, 128])?;
        let source = NoiseSource::TorchCuda { grid: Grid::H100, dtype: NoiseDtype::Bf16 };
        Ok(move || noise(&mut out, source, 42))
    });
}
