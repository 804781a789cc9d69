//! `layernorm_modulate`: both streams of a double block; on the CPU 1,024 tokens.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::ModulationVector;
use flux_rt::ops::layernorm_modulate::ModulateSegment;
use flux_rt::ops::layernorm_modulate::layernorm_modulate;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let hidden = 3072;
    let [txt, img] = bench.pick([256, 768], [512, 4096]);
    let seq = txt + img;
    let work = Work { values: 2 * seq * hidden + 4 * hidden, bytes: 4, ..Work::default() };
    bench.case("layernorm_modulate", &format!("{seq}x{hidden} two"), work, |device| {
        let x: Tensor<Act, 2> = crate::random(device, [seq, hidden], 1)?;
        let table = crate::random(device, [28, 12 * hidden], 2)?;
        let step = crate::step(device, 13)?;
        let mut out = Tensor::<Act, 2>::empty(device, [seq, hidden])?;
        Ok(move || {
            let vector = |index| {
                let column = index * hidden;
                ModulationVector { table: &table, step: &step, column }
            };
            let segment = |rows, first| ModulateSegment {
                rows,
                shift: vector(first),
                scale: vector(first + 1),
            };
            let segments = [segment(0..txt, 6), segment(txt..seq, 0)];
            layernorm_modulate(out.matrix_mut(), x.matrix(), &segments)
        })
    });
}
