//! `gated_gelu`: 512 tokens at T5-XXL's width.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::gated_gelu::gated_gelu;

pub(crate) fn run(criterion: &mut Criterion) {
    let (seq, width) = (512, 10240);
    let hidden: Tensor<Act, 2> = crate::random([seq, 2 * width], 1);
    let mut out = Tensor::<Act, 2>::zeros([seq, width]);
    crate::bench(criterion, "gated_gelu", seq * width, || {
        gated_gelu(out.matrix_mut(), hidden.matrix()).expect("fits");
    });
}
