//! `embedding`: T5-XXL's and CLIP-L's tables; on the CPU 512 rows of 1,024.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::embedding::embedding;

use crate::Bench;
use crate::Work;

/// Name, tokens, rows of the table, width, and whether positions are added.
type Case = (&'static str, u32, u32, usize, bool);

pub(crate) fn run(bench: &mut Bench) {
    let cuda: &[Case] =
        &[("t5 512x4096", 512, 32_128, 4096, false), ("clip 77x768", 77, 49_408, 768, true)];
    for &spec in bench.pick(&[("512x1024", 512, 4096, 1024, false)][..], cuda) {
        case(bench, spec);
    }
}

fn case(bench: &mut Bench, (name, seq, vocab, hidden, positioned): Case) {
    let rows = seq as usize;
    let values = rows * hidden * if positioned { 3 } else { 2 };
    let work = Work { values, bytes: 4 * rows, ..Work::default() };
    bench.case("embedding", name, work, |device| {
        let table = crate::weight(device, [vocab as usize, hidden], 1)?;
        let positions = positioned.then(|| crate::weight(device, [rows, hidden], 2)).transpose()?;
        // A prime far from any power of two: rows from all over the table.
        let ids = (0..seq).map(|index| index * 7919 % vocab).collect();
        let ids = Tensor::from_host([rows], ids).to_device(device)?;
        let mut out = Tensor::<Act, 2>::empty(device, [rows, hidden])?;
        Ok(move || embedding(out.matrix_mut(), &ids, &table, positions.as_ref()))
    });
}
