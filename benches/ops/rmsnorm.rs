//! `rmsnorm`: 512 tokens at T5-XXL's width.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::rmsnorm::rmsnorm;

pub(crate) fn run(criterion: &mut Criterion) {
    let (seq, hidden) = (512, 4096);
    let x: Tensor<Act, 2> = crate::random([seq, hidden], 1);
    let weight = crate::random([hidden], 2);
    let mut out = Tensor::<Act, 2>::zeros([seq, hidden]);
    crate::bench(criterion, "rmsnorm", seq * hidden, || {
        rmsnorm(out.matrix_mut(), x.matrix(), &weight, 1e-6).expect("fits");
    });
}
