//! `conv2d`: every convolution of the decoder that differs from the others; on the CPU one of 64 x 64
//! pixels and 128 channels.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::conv2d::Conv2d;
use flux_rt::ops::conv2d::Stride;
use flux_rt::ops::conv2d::conv2d;

use crate::Bench;
use crate::Work;

/// Height and width, channels in and out, kernel, and whether a residual is added.
type Case = (usize, [usize; 2], usize, bool);

const CUDA: [Case; 12] = [
    (128, [16, 512], 3, false), // conv_in
    (128, [512, 512], 3, true),
    (256, [512, 512], 3, true),
    (512, [512, 512], 3, false), // behind the second upsampling
    (512, [512, 256], 3, false), // the third level's first resnet
    (512, [512, 256], 1, false), // its shortcut
    (512, [256, 256], 3, true),
    (1024, [256, 256], 3, false), // behind the third upsampling
    (1024, [256, 128], 3, false), // the last level's first resnet
    (1024, [256, 128], 1, false), // its shortcut
    (1024, [128, 128], 3, true),
    (1024, [128, 3], 3, false), // conv_out
];

pub(crate) fn run(bench: &mut Bench) {
    for &spec in bench.pick(&[(64, [128, 128], 3, true)][..], &CUDA[..]) {
        case(bench, spec);
    }
}

fn case(bench: &mut Bench, (side, [in_channels, out_channels], kernel, add): Case) {
    let pixels = side * side;
    let patch = kernel * kernel * in_channels;
    let outputs = pixels * out_channels;
    let work = Work {
        flops: 2 * outputs * patch,
        values: pixels * in_channels + out_channels * patch + outputs * if add { 2 } else { 1 },
        bytes: 4 * out_channels,
        ..Work::default()
    };
    let residual = if add { " residual" } else { "" };
    let name = format!("{side}x{side} {in_channels}to{out_channels} k{kernel}{residual}");
    bench.case("conv2d", &name, work, |device| {
        let x: Tensor<Act, 3> = crate::random(device, [side, side, in_channels], 1)?;
        let shape = [side, side, out_channels];
        let residual: Option<Tensor<Act, 3>> =
            add.then(|| crate::random(device, shape, 2)).transpose()?;
        let weight = crate::weight(device, [out_channels, patch], 3)?;
        let conv = Conv2d { weight, kernel, bias: crate::random(device, [out_channels], 4)? };
        let mut out = Tensor::empty(device, shape)?;
        Ok(move || conv2d(&mut out, &x, residual.as_ref(), &conv, Stride::One))
    });
}
