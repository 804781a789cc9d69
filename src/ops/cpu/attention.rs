//! Oracle of `attention`: whole rows of scores, softmax with an f64 sum.

use rayon::iter::IndexedParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

use crate::device::Act;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::QuantizedQkv;
use crate::device::Tensor;
use crate::device::e4m3;
use crate::device::host_gemm::Sum;
use crate::device::host_gemm::Transpose;
use crate::device::host_gemm::host_gemm;
use crate::device::quantized_qkv::key_position;
use crate::ops::attention::Mask;

/// Queries handled together: their scores are `[32, S]`, 2 MB at 16,384 tokens.
const QUERY_BLOCK: usize = 32;

pub(crate) fn attention(
    out: &mut MatrixMut<'_, Act>,
    qkv: &Tensor<Act, 4>,
    mask: Mask<'_>,
    scale: f32,
) {
    let [seq, _, heads, head_dim] = qkv.shape();
    let width = heads * head_dim;
    let stride = out.stride();
    let qkv = Matrix::<f32>::new(qkv.host(), seq, 3 * width);
    out.host_mut().par_chunks_mut(QUERY_BLOCK * stride).enumerate().for_each(|(block, chunk)| {
        let queries = block * QUERY_BLOCK..seq.min((block + 1) * QUERY_BLOCK);
        let mut scores = vec![0.0; queries.len() * seq];
        let mut result = vec![0.0; queries.len() * head_dim];
        for head in 0..heads {
            let part = |index: usize| {
                let first = index * width + head * head_dim;
                qkv.columns(first..first + head_dim)
            };
            let q = part(0).rows(queries.clone());
            let mut view = MatrixMut::<f32>::new(&mut scores, queries.len(), seq);
            host_gemm(&mut view, q, part(1), Transpose::Yes, scale, Sum::New);
            for (row, query) in queries.clone().enumerate() {
                let scores = view.row_mut(row);
                apply_mask(scores, mask, head, query);
                softmax(scores);
            }
            let mut values = MatrixMut::<f32>::new(&mut result, queries.len(), head_dim);
            host_gemm(&mut values, view.as_ref(), part(2), Transpose::No, 1.0, Sum::New);
            for row in 0..queries.len() {
                chunk[row * stride + head * head_dim..][..head_dim]
                    .copy_from_slice(values.row_mut(row));
            }
        }
    });
}

/// Adds the mask to the scores of one query.
fn apply_mask(scores: &mut [f32], mask: Mask<'_>, head: usize, query: usize) {
    match mask {
        Mask::None => {}
        Mask::Causal => scores[query + 1..].fill(f32::NEG_INFINITY),
        Mask::Relative(bias) => {
            let bias = &bias.matrix().row(head)[scores.len() - 1 - query..];
            scores.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
        }
    }
}

/// Softmax in place.
#[expect(clippy::cast_possible_truncation, reason = "the sum is f64, the result f32")]
fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += f64::from(*score);
    }
    let inverse = (1.0 / sum) as f32;
    scores.iter_mut().for_each(|score| *score *= inverse);
}

/// Powers of two by which probabilities are larger than they are before they are rounded to e4m3.
const PROBABILITY_EXPONENT: f32 = 4.0;

/// From operands in e4m3.
pub(crate) fn attention_fp8(
    out: &mut MatrixMut<'_, Act>,
    qkv: &QuantizedQkv,
    v_units: &Tensor<f32, 1>,
    scale: f32,
) {
    let [seq, _, heads, head_dim] = qkv.qk.shape();
    let width = heads * head_dim;
    let [_, _, padded] = qkv.v.shape();
    let table: Vec<f32> = (0..=u8::MAX).map(e4m3::to_f32).collect();
    let number = |byte: &u8| table[usize::from(*byte)];
    let qk: Vec<f32> = qkv.qk.host().iter().map(number).collect();
    let qk = Matrix::<f32>::new(&qk, seq, 2 * width);
    // [S, D], keys in their own order.
    let mut v = vec![0.0; seq * width];
    for (channel, values) in qkv.v.host().chunks_exact(padded).enumerate() {
        for key in 0..seq {
            v[key * width + channel] = number(&values[key_position(key)]);
        }
    }
    let v = Matrix::<f32>::new(&v, seq, width);
    let unit = scale * qkv.qk_scales[0] * qkv.qk_scales[1] * std::f32::consts::LOG2_E;
    let stride = out.stride();
    out.host_mut().par_chunks_mut(QUERY_BLOCK * stride).enumerate().for_each(|(block, chunk)| {
        let queries = block * QUERY_BLOCK..seq.min((block + 1) * QUERY_BLOCK);
        let mut scores = vec![0.0; queries.len() * seq];
        let mut result = vec![0.0; queries.len() * head_dim];
        for head in 0..heads {
            let columns = |first: usize| first + head * head_dim..first + (head + 1) * head_dim;
            let q = qk.columns(columns(0)).rows(queries.clone());
            let mut view = MatrixMut::<f32>::new(&mut scores, queries.len(), seq);
            host_gemm(&mut view, q, qk.columns(columns(width)), Transpose::Yes, unit, Sum::New);
            let sums: Vec<f32> =
                (0..queries.len()).map(|row| probabilities(view.row_mut(row), &table)).collect();
            let mut values = MatrixMut::<f32>::new(&mut result, queries.len(), head_dim);
            host_gemm(
                &mut values,
                view.as_ref(),
                v.columns(columns(0)),
                Transpose::No,
                1.0,
                Sum::New,
            );
            let units = &v_units.host()[columns(0)];
            for (row, sum) in sums.iter().enumerate() {
                let out = &mut chunk[row * stride + head * head_dim..][..head_dim];
                for ((to, value), unit) in out.iter_mut().zip(values.row_mut(row)).zip(units) {
                    *to = *value / sum * unit;
                }
            }
        }
    });
}

/// Scores in powers of two become probabilities in e4m3; returns their sum.
#[expect(clippy::cast_possible_truncation, reason = "the sum is f64, the result f32")]
fn probabilities(scores: &mut [f32], table: &[f32]) -> f32 {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let reference = most.ceil() - PROBABILITY_EXPONENT;
    let mut sum = 0.0;
    for score in scores {
        *score = table[usize::from(e4m3::from_f32((*score - reference).exp2()))];
        sum += f64::from(*score);
    }
    sum as f32
}
