//! `conv2d` against plain loops in f64.

use proptest::prelude::*;

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::conv2d::Conv2d;
use flux_rt::ops::conv2d::Stride;
use flux_rt::ops::conv2d::conv2d;
use flux_rt::ops::gemm::Weight;

use crate::common::F32;
use crate::common::difference;
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
