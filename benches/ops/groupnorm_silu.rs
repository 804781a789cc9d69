//! `groupnorm_silu`: 128 channels, 256 x 256 pixels.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::groupnorm_silu::GroupNorm;
use flux_rt::ops::groupnorm_silu::groupnorm_silu;

pub(crate) fn run(criterion: &mut Criterion) {
    let (side, channels) = (256, 128);
    let x: Tensor<Act, 3> = crate::random([side, side, channels], 1);
    let weight = crate::random([channels], 2);
    let norm = GroupNorm { weight: &weight, bias: &weight, groups: 32 };
    let mut out = Tensor::zeros([side, side, channels]);
    crate::bench(criterion, "groupnorm_silu", side * side * channels, || {
        groupnorm_silu(&mut out, &x, norm, Activation::Silu).expect("fits");
    });
}
