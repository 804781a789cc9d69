//! `groupnorm_silu` against plain loops in f64.

use proptest::prelude::*;

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::groupnorm_silu::GroupNorm;
use flux_rt::ops::groupnorm_silu::groupnorm_silu;

use crate::common::F32;
use crate::common::difference;
use crate::common::gpu;
use crate::narrow;
use crate::random;

proptest! {
    #![proptest_config(crate::cases(16))]
    #[test]
    fn groups_and_sizes(
        height in prop::sample::select(vec![1usize, 3, 64]),
        width in prop::sample::select(vec![1usize, 5, 65]),
        groups in 1usize..5,
        group_size in 1usize..4,
        silu in any::<bool>(),
    ) {
        let channels = groups * group_size;
        // An offset far from zero: one-pass statistics in f32 would lose it.
        let mut x: Tensor<Act, 3> = random([height, width, channels], 1);
        x.host_mut().iter_mut().for_each(|value| *value = 0.5 * *value + 30.0);
        let weight: Tensor<f32, 1> = random([channels], 2);
        let bias: Tensor<f32, 1> = random([channels], 3);
        let mut out = Tensor::zeros(x.shape());
        let norm = GroupNorm { weight: &weight, bias: &bias, groups };
        let activation = if silu { Activation::Silu } else { Activation::None };
        groupnorm_silu(&mut out, &x, norm, activation).unwrap();
        let values = |group: usize| {
            let members = group * group_size..(group + 1) * group_size;
            x.host().iter().enumerate().filter(move |(index, _)| members.contains(&(index % channels)))
        };
        let count = (height * width * group_size) as f64;
        let mut expected = vec![0.0; x.host().len()];
        for group in 0..groups {
            let mean = values(group).map(|(_, &value)| f64::from(value)).sum::<f64>() / count;
            let variance =
                values(group).map(|(_, &value)| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
            for (index, &value) in values(group) {
                let channel = index % channels;
                let y = (f64::from(value) - mean) / (variance + 1e-6).sqrt();
                let y = y * f64::from(weight.host()[channel]) + f64::from(bias.host()[channel]);
                expected[index] = narrow(if silu { y / (1.0 + (-y).exp()) } else { y });
            }
        }
        prop_assert_eq!(difference(out.host(), &expected, F32), Ok(()));
    }
}

#[test]
fn groups_that_do_not_divide_are_refused() {
    let x: Tensor<Act, 3> = random([2, 2, 5], 1);
    let weight: Tensor<f32, 1> = random([5], 2);
    let mut out = Tensor::zeros(x.shape());
    let norm = GroupNorm { weight: &weight, bias: &weight, groups: 2 };
    let error = groupnorm_silu(&mut out, &x, norm, Activation::None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "groupnorm_silu: groups has shape 2, expected a divisor of 5 channels"
    );
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    let small = [
        // Height, width, channels, groups: eight channels at a time, or one.
        [1, 1, 8, 1],
        [1, 1, 3, 3],
        [1, 63, 16, 4],
        [5, 13, 3, 1],
        [8, 8, 255, 5],
        [1, 129, 250, 25],
        [7, 37, 64, 32],
        [16, 17, 128, 32],
        [33, 65, 256, 32],
        [1, 4097, 8, 2],
        [19, 9, 1024, 32],
    ];
    let large = [[64, 64, 512, 32], [256, 256, 512, 32], [512, 512, 128, 32]];
    let count = if gpu.small() { 0 } else { large.len() };
    for (index, shape) in small.iter().chain(&large[..count]).enumerate() {
        let [height, width, channels, groups] = *shape;
        let activation = [Activation::Silu, Activation::None][index % 2];
        gpu.agrees(&format!("{shape:?} {activation:?}"), gpu::BF16, |device| {
            // An offset from zero: one-pass statistics in f32 would lose digits.
            let mut x = gpu::act(&Device::Cpu, [height, width, channels], 1);
            x.host_mut().iter_mut().for_each(|value| *value += 4.0);
            gpu::round(x.host_mut());
            let x = gpu::to(device, x);
            let [weight, bias] = [2, 3].map(|seed| gpu::f32s(device, [channels], seed));
            let norm = GroupNorm { weight: &weight, bias: &bias, groups };
            let mut out = Tensor::empty(device, x.shape()).unwrap();
            groupnorm_silu(&mut out, &x, norm, activation).unwrap();
            gpu::host(out)
        });
    }
}
