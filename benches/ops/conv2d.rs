//! `conv2d`: 3 x 3, 128 channels, 64 x 64 pixels.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::conv2d::Conv2d;
use flux_rt::ops::conv2d::Stride;
use flux_rt::ops::conv2d::conv2d;
use flux_rt::ops::gemm::Weight;

pub(crate) fn run(criterion: &mut Criterion) {
    let (side, channels) = (64, 128);
    let x: Tensor<Act, 3> = crate::random([side, side, channels], 1);
    let weight = Weight::F32(crate::random([channels, 9 * channels], 2));
    let conv = Conv2d { weight, kernel: 3, bias: crate::random([channels], 3) };
    let mut out = Tensor::zeros([side, side, channels]);
    crate::bench(criterion, "conv2d", side * side * 9 * channels * channels, || {
        conv2d(&mut out, &x, Some(&x), &conv, Stride::One).expect("fits");
    });
}
