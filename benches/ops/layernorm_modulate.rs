//! `layernorm_modulate`: 1,024 tokens at FLUX.1's width.

use criterion::Criterion;
use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::ModulationVector;
use flux_rt::ops::layernorm_modulate::ModulateSegment;
use flux_rt::ops::layernorm_modulate::layernorm_modulate;

pub(crate) fn run(criterion: &mut Criterion) {
    let (seq, hidden) = (1024, 3072);
    let x: Tensor<Act, 2> = crate::random([seq, hidden], 1);
    let table = crate::random([1, 2 * hidden], 2);
    let step = Tensor::from_host([1], vec![0u32]);
    let vector = |column| ModulationVector { table: &table, step: &step, column };
    let segments = [ModulateSegment { rows: 0..seq, shift: vector(0), scale: vector(hidden) }];
    let mut out = Tensor::<Act, 2>::zeros([seq, hidden]);
    crate::bench(criterion, "layernorm_modulate", seq * hidden, || {
        layernorm_modulate(out.matrix_mut(), x.matrix(), &segments).expect("fits");
    });
}
