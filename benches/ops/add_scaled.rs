//! `add_scaled`: the effect of blocks put back on the joint and on the image's stream.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::add_scaled::add_scaled;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    for rows in bench.pick([1152, 1024], [4608, 4096]) {
        let shape = [rows, 3072];
        let work = Work { values: 3 * shape[0] * shape[1], ..Work::default() };
        bench.case("add_scaled", &format!("{rows}x3072"), work, |device| {
            let a: Tensor<Act, 2> = crate::random(device, shape, 1)?;
            let b: Tensor<Act, 2> = crate::random(device, shape, 2)?;
            let mut out = Tensor::<Act, 2>::empty(device, shape)?;
            Ok(move || add_scaled(out.matrix_mut(), a.matrix(), b.matrix(), 1.0))
        });
    }
}
