//! `pack`: the latents of a 1024 x 1024 image, unpacked for the decoder.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::pack::unpack;

pub(crate) fn run(criterion: &mut Criterion) {
    let packed: Tensor<Act, 2> = crate::random([4096, 64], 1);
    let mut out = Tensor::zeros([128, 128, 16]);
    crate::bench(criterion, "pack", 4096 * 64, || {
        unpack(&mut out, &packed, 0.3611, 0.1159).expect("fits");
    });
}
