//! `to_rgb8`: a 1024 x 1024 image.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::to_rgb8::PixelRounding;
use flux_rt::ops::to_rgb8::to_rgb8;

pub(crate) fn run(criterion: &mut Criterion) {
    let image: Tensor<Act, 3> = crate::random([1024, 1024, 3], 1);
    let mut out = Tensor::zeros([1024, 1024, 3]);
    crate::bench(criterion, "to_rgb8", 3 * 1024 * 1024, || {
        to_rgb8(&mut out, &image, PixelRounding::F32).expect("fits");
    });
}
