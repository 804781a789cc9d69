//! Oracle of `groupnorm_silu`: two passes for the statistics, then one over the pixels.

use rayon::iter::IntoParallelIterator;
use rayon::iter::ParallelIterator;

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::ops::cpu::for_each_row;
use crate::ops::cpu::gemm::activate;
use crate::ops::gemm::Activation;
use crate::ops::groupnorm_silu::EPS;
use crate::ops::groupnorm_silu::GroupNorm;

/// Pixels summed in one task; the partial sums are added in order, so results repeat bit for bit.
const PIXEL_BLOCK: usize = 4096;

#[expect(clippy::cast_possible_truncation, reason = "the statistics are f64, the result f32")]
pub(crate) fn groupnorm_silu(
    out: &mut MatrixMut<'_, Act>,
    x: Matrix<'_, Act>,
    norm: GroupNorm<'_>,
    activation: Activation,
) {
    let [pixels, channels] = x.shape();
    let group_size = channels / norm.groups;
    let count = (pixels * group_size) as f64;
    let mean: Vec<f64> =
        group_sums(x, norm.groups, |value, _| value).into_iter().map(|sum| sum / count).collect();
    let variance = group_sums(x, norm.groups, |value, group| (value - mean[group]).powi(2));
    // y = (x - mean) * factor + bias, per channel; in f64, since x and the mean may cancel.
    let affine: Vec<[f64; 3]> = (0..channels)
        .map(|channel| {
            let group = channel / group_size;
            let inverse = 1.0 / (variance[group] / count + EPS).sqrt();
            let factor = inverse * f64::from(norm.weight.host()[channel]);
            [mean[group], factor, f64::from(norm.bias.host()[channel])]
        })
        .collect();
    for_each_row(out, |pixel, values| {
        for ((value, &x), [mean, factor, bias]) in values.iter_mut().zip(x.row(pixel)).zip(&affine)
        {
            *value = ((f64::from(x) - mean) * factor + bias) as f32;
        }
        activate(values, activation);
    });
}

/// Sum over all pixels and the channels of each group of `term(value, group)`.
fn group_sums(
    x: Matrix<'_, Act>,
    groups: usize,
    term: impl Fn(f64, usize) -> f64 + Sync,
) -> Vec<f64> {
    let [pixels, channels] = x.shape();
    let partial: Vec<Vec<f64>> = (0..pixels.div_ceil(PIXEL_BLOCK))
        .into_par_iter()
        .map(|block| {
            let mut sums = vec![0.0; groups];
            for pixel in block * PIXEL_BLOCK..pixels.min((block + 1) * PIXEL_BLOCK) {
                let row = x.row(pixel).chunks_exact(channels / groups);
                for (group, (sum, values)) in sums.iter_mut().zip(row).enumerate() {
                    *sum += values.iter().map(|&value| term(f64::from(value), group)).sum::<f64>();
                }
            }
            sums
        })
        .collect();
    let mut sums = vec![0.0; groups];
    for block in partial {
        sums.iter_mut().zip(block).for_each(|(sum, part)| *sum += part);
    }
    sums
}
