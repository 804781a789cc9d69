//! `gemm_qkv`: q, k, v of a block at D 1536, 128 tokens.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm_qkv::QkvSegment;
use flux_rt::ops::gemm_qkv::gemm_qkv;

pub(crate) fn run(criterion: &mut Criterion) {
    let (seq, heads, head_dim) = (128, 12, 128);
    let hidden = heads * head_dim;
    let a: Tensor<Act, 2> = crate::random([seq, hidden], 1);
    let weight = Weight::F32(crate::random([3 * hidden, hidden], 2));
    let linear = Linear { weight, bias: Some(crate::random([3 * hidden], 3)) };
    let norm = crate::random([head_dim], 4);
    let rope = crate::random([seq, head_dim / 2, 2], 5);
    let mut qkv = Tensor::zeros([seq, 3, heads, head_dim]);
    crate::bench(criterion, "gemm_qkv", 3 * seq * hidden * hidden, || {
        let rows = 0..seq;
        let segments = [QkvSegment { rows, linear: &linear, q_norm: &norm, k_norm: &norm }];
        gemm_qkv(&mut qkv, None, a.matrix(), &segments, &rope).expect("fits");
    });
}
