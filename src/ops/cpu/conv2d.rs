//! Oracle of `conv2d`: patches of some output rows as a matrix, times the weights.

use rayon::iter::IndexedParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::ops::conv2d::Conv2d;
use crate::ops::conv2d::Stride;
use crate::ops::cpu::gemm::product;

/// Output pixels per task: enough for a full-speed product, few enough to stay in the cache.
const PIXEL_BLOCK: usize = 512;

pub(crate) fn conv2d(
    out: &mut Tensor<Act, 3>,
    x: &Tensor<Act, 3>,
    residual: Option<&Tensor<Act, 3>>,
    conv: &Conv2d,
    stride: Stride,
) {
    let [_, out_width, out_channels] = out.shape();
    let [_, patch] = conv.weight.shape();
    let kernel = conv.kernel;
    let rows = PIXEL_BLOCK.div_ceil(out_width.max(1));
    let row_len = out_width * out_channels;
    if row_len == 0 {
        return;
    }
    out.host_mut().par_chunks_mut(rows * row_len).enumerate().for_each(|(block, chunk)| {
        let pixels = chunk.len() / out_channels;
        let mut patches = vec![0.0; pixels * patch];
        for (pixel, patch) in patches.chunks_exact_mut(patch).enumerate() {
            gather(patch, x, block * rows + pixel / out_width, pixel % out_width, kernel, stride);
        }
        let patches = Matrix::<Act>::new(&patches, pixels, patch);
        let mut view = MatrixMut::<Act>::new(chunk, pixels, out_channels);
        product(&mut view, patches, &conv.weight, 0..out_channels);
        for pixel in chunk.chunks_exact_mut(out_channels) {
            pixel.iter_mut().zip(conv.bias.host()).for_each(|(value, bias)| *value += bias);
        }
        if let Some(residual) = residual {
            let residual = &residual.host()[block * rows * row_len..];
            chunk.iter_mut().zip(residual).for_each(|(value, old)| *value += old);
        }
    });
}

/// Copies the kernel's window of output pixel (y, x) into `patch`; outside the image it stays zero.
fn gather(
    patch: &mut [f32],
    image: &Tensor<Act, 3>,
    y: usize,
    x: usize,
    kernel: usize,
    stride: Stride,
) {
    let [height, width, channels] = image.shape();
    // First input row and column of the window, plus the padding above and to the left.
    let (step, pad) = match stride {
        Stride::One => (1, kernel / 2),
        Stride::Two => (2, 0),
    };
    for dy in 0..kernel {
        let row = y * step + dy;
        if row < pad || row - pad >= height {
            continue;
        }
        for dx in 0..kernel {
            let column = x * step + dx;
            if column < pad || column - pad >= width {
                continue;
            }
            let source = ((row - pad) * width + column - pad) * channels;
            patch[(dy * kernel + dx) * channels..][..channels]
                .copy_from_slice(&image.host()[source..][..channels]);
        }
    }
}
