//! `quantize`: a weight of a double block, with a scale a row, and the MLP's hidden layer in units.

use flux_rt::device::Act;
use flux_rt::device::Quantized;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::ops::quantize::quantize;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    for (name, [rows, columns], scaling) in [
        ("9216x3072 row", [9216, 3072], Scaling::Row),
        ("4608x12288 units", [4608, 12_288], Scaling::Units),
    ] {
        let work = Work { values: rows * columns, bytes: rows * columns, ..Work::default() };
        bench.case("quantize", name, work, |device| {
            let x: Tensor<Act, 2> = crate::random(device, [rows, columns], 1)?;
            let mut out = Quantized::empty(device, [rows, columns], scaling)?;
            let units = (scaling == Scaling::Units).then(|| crate::units(device, columns));
            let units = units.transpose()?;
            Ok(move || quantize(out.view_mut(), x.matrix(), units.as_ref()))
        });
    }
}
