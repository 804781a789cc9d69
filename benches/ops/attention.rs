//! `attention`: 4 heads of 128 over 1,024 tokens.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::attention::Mask;
use flux_rt::ops::attention::attention;

pub(crate) fn run(criterion: &mut Criterion) {
    let (seq, heads, head_dim) = (1024, 4, 128);
    let qkv: Tensor<Act, 4> = crate::random([seq, 3, heads, head_dim], 1);
    let mut out = Tensor::<Act, 2>::zeros([seq, heads * head_dim]);
    crate::bench(criterion, "attention", 2 * seq * seq * heads * head_dim, || {
        attention(out.matrix_mut(), &qkv, Mask::None, 0.088).expect("fits");
    });
}
