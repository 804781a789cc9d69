//! `embedding`: 512 rows of 1,024.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::embedding::embedding;
use flux_rt::ops::gemm::Weight;

pub(crate) fn run(criterion: &mut Criterion) {
    let (seq, vocab, hidden) = (512u32, 4096, 1024);
    let table = Weight::F32(crate::random([vocab, hidden], 1));
    let ids = (0..seq).map(|index| index * 7 % 4096).collect();
    let ids = Tensor::from_host([seq as usize], ids);
    let mut out = Tensor::<Act, 2>::zeros([seq as usize, hidden]);
    crate::bench(criterion, "embedding", seq as usize * hidden, || {
        embedding(out.matrix_mut(), &ids, &table, None).expect("fits");
    });
}
