//! Oracle of `gemm_qkv`.

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::ops::cpu::for_each_row;
use crate::ops::cpu::gemm::activate;
use crate::ops::cpu::gemm::product;
use crate::ops::cpu::sum_of_squares;
use crate::ops::gemm::Activation;
use crate::ops::gemm_qkv::QK_NORM_EPS;
use crate::ops::gemm_qkv::QkvSegment;

pub(crate) fn gemm_qkv(
    mut out: MatrixMut<'_, Act>,
    a: Matrix<'_, Act>,
    segment: &QkvSegment<'_>,
    rope: &Tensor<f32, 3>,
    heads: usize,
) {
    let [_, width] = out.shape();
    let head_dim = width / (3 * heads);
    product(&mut out, a, &segment.linear.weight, 0..width);
    let bias = segment.linear.bias.as_ref().map(|bias| bias.host());
    let first_row = segment.rows.start;
    for_each_row(&mut out, |row, values| {
        if let Some(bias) = bias {
            values.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
        let angles = &rope.host()[(first_row + row) * head_dim..][..head_dim];
        let (q, kv) = values.split_at_mut(width / 3);
        let k = &mut kv[..width / 3];
        for (part, weight) in [(q, segment.q_norm), (k, segment.k_norm)] {
            for head in part.chunks_exact_mut(head_dim) {
                normalize(head, weight.host());
                rotate(head, angles);
            }
        }
    });
}

/// `GELU(a W^T + b)` with the weight rows from `first_row` on.
pub(crate) fn mlp_up(
    mut out: MatrixMut<'_, Act>,
    a: Matrix<'_, Act>,
    segment: &QkvSegment<'_>,
    first_row: usize,
) {
    let [_, width] = out.shape();
    product(&mut out, a, &segment.linear.weight, first_row..first_row + width);
    let bias = segment.linear.bias.as_ref().map(|bias| &bias.host()[first_row..]);
    for_each_row(&mut out, |_, values| {
        if let Some(bias) = bias {
            values.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
        activate(values, Activation::GeluTanh);
    });
}

/// RMSNorm of one head.
#[expect(clippy::cast_possible_truncation, reason = "the statistic is f64, the result f32")]
fn normalize(head: &mut [f32], weight: &[f32]) {
    let mean = sum_of_squares(head) / head.len() as f64;
    let inverse = (1.0 / (mean + QK_NORM_EPS).sqrt()) as f32;
    head.iter_mut().zip(weight).for_each(|(value, weight)| *value *= inverse * weight);
}

/// Rotates the pairs (2j, 2j + 1) by their angle, given as cos, sin.
fn rotate(head: &mut [f32], angles: &[f32]) {
    for (pair, angle) in head.chunks_exact_mut(2).zip(angles.chunks_exact(2)) {
        let (even, odd) = (pair[0], pair[1]);
        let (cos, sin) = (angle[0], angle[1]);
        pair[0] = even * cos - odd * sin;
        pair[1] = odd * cos + even * sin;
    }
}
