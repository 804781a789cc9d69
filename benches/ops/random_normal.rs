//! `random_normal`: a block's output projection.

use criterion::Criterion;
use flux_rt::device::Tensor;
use flux_rt::ops::random_normal::RandomStream;
use flux_rt::ops::random_normal::random_normal;

pub(crate) fn run(criterion: &mut Criterion) {
    let mut out = Tensor::zeros([1024, 3072]);
    crate::bench(criterion, "random_normal", 1024 * 3072, || {
        random_normal(&mut out, 0.02, RandomStream { seed: 1, stream: 2 }).expect("fits");
    });
}
