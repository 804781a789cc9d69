//! `groupnorm_silu` against plain loops in f64.

use proptest::prelude::*;

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::groupnorm_silu::GroupNorm;
use flux_rt::ops::groupnorm_silu::groupnorm_silu;

use crate::common::F32;
use crate::common::difference;
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
