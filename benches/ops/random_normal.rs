//! `random_normal`: the MLP's upper half of a block.

use flux_rt::device::Tensor;
use flux_rt::ops::random_normal::RandomStream;
use flux_rt::ops::random_normal::random_normal;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let (rows, cols) = bench.pick((1024, 3072), (12_288, 3072));
    let work = Work { bytes: 2 * rows * cols, ..Work::default() };
    bench.case("random_normal", &format!("{rows}x{cols}"), work, |device| {
        let mut out = Tensor::empty(device, [rows, cols])?;
        Ok(move || random_normal(&mut out, 0.02, RandomStream { seed: 1, stream: 2 }))
    });
}
