//! `gemm`: a block's output projection at D 3072, 128 tokens.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm::gemm;
use flux_rt::ops::gemm::whole;

pub(crate) fn run(criterion: &mut Criterion) {
    let (m, n, k) = (128, 3072, 3072);
    let a: Tensor<Act, 2> = crate::random([m, k], 1);
    let weight = Weight::F32(crate::random([n, k], 2));
    let linear = Linear { weight, bias: Some(crate::random([n], 3)) };
    let mut out = Tensor::<Act, 2>::zeros([m, n]);
    crate::bench(criterion, "gemm", m * n * k, || {
        let segments = whole(&linear, m);
        gemm(out.matrix_mut(), a.matrix(), None, &segments, Activation::GeluTanh).expect("fits");
    });
}
