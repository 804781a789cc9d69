//! `conv2d` against plain loops in f64.

use proptest::prelude::*;

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::conv2d::Conv2d;
use flux_rt::ops::conv2d::Stride;
use flux_rt::ops::conv2d::conv2d;
use flux_rt::ops::gemm::Weight;

use crate::common::F32;
use crate::common::difference;
use crate::common::gpu;
use crate::narrow;
use crate::random;

fn expected(
    x: &Tensor<Act, 3>,
    residual: Option<&Tensor<Act, 3>>,
    conv: &Conv2d,
    stride: Stride,
) -> Vec<f32> {
    let [height, width, channels] = x.shape();
    let ([out_channels, _], kernel) = (conv.weight.shape(), conv.kernel);
    let Weight::F32(weight) = &conv.weight else { unreachable!("made so") };
    let (step, pad) = if stride == Stride::One { (1, kernel / 2) } else { (2, 0) };
    let mut out = Vec::new();
    for y in 0..stride.output_size(height) {
        for column in 0..stride.output_size(width) {
            for o in 0..out_channels {
                let mut sum = f64::from(conv.bias.host()[o]);
                if let Some(residual) = residual {
                    sum += f64::from(residual.host()[out.len()]);
                }
                for dy in 0..kernel {
                    for dx in 0..kernel {
                        let (iy, ix) = (y * step + dy, column * step + dx);
                        if iy < pad || ix < pad || iy - pad >= height || ix - pad >= width {
                            continue;
                        }
                        for c in 0..channels {
                            let pixel = ((iy - pad) * width + ix - pad) * channels + c;
                            let tap = ((o * kernel + dy) * kernel + dx) * channels + c;
                            sum += f64::from(x.host()[pixel]) * f64::from(weight.host()[tap]);
                        }
                    }
                }
                out.push(narrow(sum));
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(crate::cases(24))]
    #[test]
    fn both_strides_and_kernels(
        half in prop::array::uniform2(1usize..20),
        channels in 1usize..6,
        out_channels in 1usize..6,
        variant in 0usize..3,
        with_residual in any::<bool>(),
    ) {
        let (kernel, stride) = [(1, Stride::One), (3, Stride::One), (3, Stride::Two)][variant];
        let [height, width] = half.map(|half| 2 * half);
        let x: Tensor<Act, 3> = random([height, width, channels], 1);
        let conv = Conv2d {
            weight: Weight::F32(random([out_channels, kernel * kernel * channels], 2)),
            kernel,
            bias: random([out_channels], 3),
        };
        let shape = [stride.output_size(height), stride.output_size(width), out_channels];
        let residual: Tensor<Act, 3> = random(shape, 4);
        let residual = with_residual.then_some(&residual);
        let mut out = Tensor::zeros(shape);
        conv2d(&mut out, &x, residual, &conv, stride).unwrap();
        let expected = expected(&x, residual, &conv, stride);
        prop_assert_eq!(difference(out.host(), &expected, F32), Ok(()));
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let x: Tensor<Act, 3> = random([4, 4, 2], 1);
    let conv = Conv2d { weight: Weight::F32(random([3, 45], 2)), kernel: 3, bias: random([3], 3) };
    let mut out = Tensor::zeros([4, 4, 3]);
    let error = conv2d(&mut out, &x, None, &conv, Stride::One).unwrap_err();
    assert_eq!(error.to_string(), "conv2d: weight has shape [3, 45], expected [3, 18]");
}

/// The op on either device; `size` is height, width, channels of the input and of the output.
fn on(device: &Device, size: [usize; 4], kernel: usize, stride: Stride, add: bool) -> Vec<f32> {
    let [height, width, channels, out_channels] = size;
    let x = gpu::act(device, [height, width, channels], 1);
    let weight = gpu::weights(device, [out_channels, kernel * kernel * channels], 2);
    let bias = gpu::f32s(device, [out_channels], 3);
    let conv = Conv2d { weight: Weight::Bf16(weight), kernel, bias };
    let shape = [stride.output_size(height), stride.output_size(width), out_channels];
    let residual = gpu::act(device, shape, 4);
    let mut out = Tensor::empty(device, shape).unwrap();
    conv2d(&mut out, &x, add.then_some(&residual), &conv, stride).unwrap();
    gpu::host(out)
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    let variants = [(1, Stride::One), (3, Stride::One), (3, Stride::Two), (5, Stride::One)];
    let sizes = [[2, 2], [8, 8], [6, 22], [12, 10], [16, 8], [26, 10], [18, 14], [34, 62]];
    let ins = [8, 3, 16, 64, 4, 72, 136, 1];
    let outs = [3, 8, 56, 64, 72, 128, 136, 250, 256, 264];
    let shapes = sizes.into_iter().flat_map(|size| outs.map(|out| (size, out)));
    for (index, ([height, width], out)) in shapes.enumerate() {
        let (kernel, stride) = variants[index / 2 % 4];
        // Odd heights and widths, where the stride is 1.
        let odd = usize::from(stride == Stride::One && index % 3 == 0);
        let size = [height + odd, width - odd, ins[index % 8], out];
        let add = index % 5 < 2;
        gpu.agrees(&format!("{size:?}, {kernel}, {stride:?}, {add}"), gpu::BF16, |device| {
            on(device, size, kernel, stride, add)
        });
    }
    // So many tiles that a large card takes its larger ones.
    for size in [[160, 110, 8, 120], [40, 31, 16, 3848], [96, 92, 8, 392]] {
        gpu.agrees(&format!("{size:?}"), gpu::BF16, |device| {
            on(device, size, 3, Stride::One, true)
        });
    }
}

/// Whole slabs of channels, as Hopper's kernel takes them; patches that the image's edges cut.
#[test]
fn cuda_agrees_in_patches() {
    let Some(gpu) = gpu::gpu() else { return };
    let sizes = [
        [33, 47, 64, 128],
        [17, 100, 128, 256],
        [9, 16, 64, 264],
        [40, 31, 192, 136],
        [1, 5, 64, 512],
        [16, 16, 256, 128],
        // More tiles than the card computes at a time.
        [333, 301, 64, 128],
    ];
    for (size, kernel, add) in
        sizes.into_iter().flat_map(|size| [(size, 3, true), (size, 3, false), (size, 1, true)])
    {
        gpu.agrees(&format!("{size:?}, {kernel}, {add}"), gpu::BF16, |device| {
            on(device, size, kernel, Stride::One, add)
        });
    }
}

#[test]
fn cuda_agrees_at_the_models_sizes() {
    let Some(gpu) = gpu::gpu() else { return };
    if gpu.small() {
        return;
    }
    for (size, kernel, stride, add) in [
        // The decoder's ends, its middle and its shortcuts; the encoder's downsampling.
        ([128, 128, 16, 512], 3, Stride::One, false),
        ([128, 128, 512, 512], 3, Stride::One, true),
        ([256, 256, 512, 256], 3, Stride::One, false),
        ([256, 256, 512, 256], 1, Stride::One, false),
        ([512, 512, 128, 3], 3, Stride::One, false),
        ([512, 512, 128, 128], 3, Stride::One, true),
        ([512, 512, 3, 128], 3, Stride::One, false),
        ([256, 256, 256, 256], 3, Stride::Two, false),
    ] {
        gpu.agrees(&format!("{size:?}, {kernel}, {stride:?}, {add}"), gpu::BF16, |device| {
            on(device, size, kernel, stride, add)
        });
    }
}
