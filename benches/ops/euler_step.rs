//! `euler_step`: the latents of a 1024 x 1024 image.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::euler_step::LatentRounding;
use flux_rt::ops::euler_step::euler_step;

pub(crate) fn run(criterion: &mut Criterion) {
    let shape = [4096, 64];
    let mut latents: Tensor<Act, 2> = crate::random(shape, 1);
    let velocity: Tensor<Act, 2> = crate::random(shape, 2);
    let sigmas = Tensor::from_host([2], vec![1.0, 0.99]);
    crate::bench(criterion, "euler_step", shape[0] * shape[1], || {
        let mut step = Tensor::from_host([1], vec![0]);
        let rounding = LatentRounding::F32;
        euler_step(&mut latents, &velocity, &sigmas, &mut step, rounding).expect("fits");
    });
}
