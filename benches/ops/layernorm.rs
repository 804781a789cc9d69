//! `layernorm`: 77 tokens at CLIP-L's width.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::layernorm::layernorm;

pub(crate) fn run(criterion: &mut Criterion) {
    let (seq, hidden) = (77, 768);
    let x: Tensor<Act, 2> = crate::random([seq, hidden], 1);
    let weight = crate::random([hidden], 2);
    let mut out = Tensor::<Act, 2>::zeros([seq, hidden]);
    crate::bench(criterion, "layernorm", seq * hidden, || {
        layernorm(out.matrix_mut(), x.matrix(), &weight, &weight, 1e-5).expect("fits");
    });
}
