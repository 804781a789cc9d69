//! `upsample`: 128 channels, 128 x 128 to 256 x 256 pixels.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::upsample::upsample;

pub(crate) fn run(criterion: &mut Criterion) {
    let (side, channels) = (128, 128);
    let x: Tensor<Act, 3> = crate::random([side, side, channels], 1);
    let mut out = Tensor::zeros([2 * side, 2 * side, channels]);
    crate::bench(criterion, "upsample", 4 * side * side * channels, || {
        upsample(&mut out, &x).expect("fits");
    });
}
