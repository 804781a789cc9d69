//! `to_rgb8`: a 1024 x 1024 image.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::to_rgb8::PixelRounding;
use flux_rt::ops::to_rgb8::to_rgb8;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    let shape = [1024, 1024, 3];
    let count = shape.iter().product();
    let work = Work { values: count, bytes: count, ..Work::default() };
    bench.case("to_rgb8", "1024x1024", work, |device| {
        let image: Tensor<Act, 3> = crate::random(device, shape, 1)?;
        let mut out = Tensor::empty(device, shape)?;
        let mut flag = Tensor::from_host([1], vec![0]).to_device(device)?;
        Ok(move || to_rgb8(&mut out, &mut flag, &image, PixelRounding::F32))
    });
}
