//! `upsample`: the decoder's three; on the CPU 128 channels, 128 x 128 to 256 x 256 pixels.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::upsample::upsample;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let cuda: &[[usize; 2]] = &[[128, 512], [256, 512], [512, 256]];
    for &[side, channels] in bench.pick(&[[128, 128]][..], cuda) {
        let work = Work { values: 5 * side * side * channels, ..Work::default() };
        let name = format!("{side} to {}x{channels}", 2 * side);
        bench.case("upsample", &name, work, |device| {
            let x: Tensor<Act, 3> = crate::random(device, [side, side, channels], 1)?;
            let mut out = Tensor::empty(device, [2 * side, 2 * side, channels])?;
            Ok(move || upsample(&mut out, &x))
        });
    }
}
