//! `groupnorm_silu`: the decoder's sizes; on the CPU 128 channels, 256 x 256 pixels.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::groupnorm_silu::GroupNorm;
use flux_rt::ops::groupnorm_silu::groupnorm_silu;

use crate::Bench;
use crate::Work;

/// Elements that an H100's L2 of 50 MB holds: of larger images the pixels have to be read again once
/// the statistics are known.
const L2_VALUES: usize = 25_000_000;

pub(crate) fn run(bench: &mut Bench) {
    let cuda: &[[usize; 2]] =
        &[[128, 512], [256, 512], [512, 512], [512, 256], [1024, 256], [1024, 128]];
    for &[side, channels] in bench.pick(&[[256, 128]][..], cuda) {
        let count = side * side * channels;
        let passes = if count > L2_VALUES { 3 } else { 2 };
        let work = Work { values: passes * count, bytes: 8 * channels, ..Work::default() };
        let name = format!("{side}x{side}x{channels}");
        bench.case("groupnorm_silu", &name, work, |device| {
            let x: Tensor<Act, 3> = crate::random(device, [side, side, channels], 1)?;
            let weight = crate::random(device, [channels], 2)?;
            let bias = crate::random(device, [channels], 3)?;
            let mut out = Tensor::empty(device, [side, side, channels])?;
            Ok(move || {
                let norm = GroupNorm { weight: &weight, bias: &bias, groups: 32 };
                groupnorm_silu(&mut out, &x, norm, Activation::Silu)
            })
        });
    }
}
