//! `attention` against plain loops in f64.

use proptest::prelude::*;

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::attention::Mask;
use flux_rt::ops::attention::attention;

use crate::common::F32;
use crate::common::Tolerance;
use crate::common::assert_close;
use crate::common::difference;
use crate::narrow;
use crate::random;

/// Whole attention in f64; `bias(head, query, key)` is added to the scores.
fn expected(
    qkv: &Tensor<Act, 4>,
    scale: f64,
    bias: impl Fn(usize, usize, usize) -> f64,
) -> Vec<f32> {
    let [seq, _, heads, dim] = qkv.shape();
    let value = |token: usize, part: usize, head: usize, d: usize| {
        f64::from(qkv.host()[((token * 3 + part) * heads + head) * dim + d])
    };
    let mut out = vec![0.0; seq * heads * dim];
    for head in 0..heads {
        for query in 0..seq {
            let scores: Vec<f64> = (0..seq)
                .map(|key| {
                    let dot: f64 =
                        (0..dim).map(|d| value(query, 0, head, d) * value(key, 1, head, d)).sum();
                    scale * dot + bias(head, query, key)
                })
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..dim {
                let total: f64 = (0..seq).map(|key| weights[key] * value(key, 2, head, d)).sum();
                out[(query * heads + head) * dim + d] = narrow(total / sum);
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(crate::cases(16))]
    #[test]
    fn every_mask(
        seq in prop::sample::select(vec![1usize, 2, 31, 32, 33, 65]),
        heads in 1usize..4,
        dim in prop::sample::select(vec![4usize, 64, 128]),
        mask in 0usize..3,
    ) {
        let qkv: Tensor<Act, 4> = random([seq, 3, heads, dim], 1);
        let table: Tensor<f32, 2> = random([heads, 2 * seq - 1], 2);
        let columns = 2 * seq - 1;
        let bias = |head: usize, query: usize, key: usize| match mask {
            0 => 0.0,
            1 if key > query => f64::NEG_INFINITY,
            1 => 0.0,
            _ => f64::from(table.host()[head * columns + key + seq - 1 - query]),
        };
        let expected = expected(&qkv, 0.7, bias);
        let mask = [Mask::None, Mask::Causal, Mask::Relative(&table)][mask];
        // The columns beside the heads must stay as they are: attention writes into linear2's input.
        let mut out = Tensor::<Act, 2>::from_host([seq, heads * dim + 3], vec![5.0; seq * (heads * dim + 3)]);
        attention(out.matrix_mut().columns(0..heads * dim), &qkv, mask, 0.7).unwrap();
        for row in 0..seq {
            let (heads_out, rest) = out.matrix().row(row).split_at(heads * dim);
            prop_assert_eq!(rest, [5.0; 3]);
            let expected = &expected[row * heads * dim..][..heads * dim];
            prop_assert_eq!(difference(heads_out, expected, F32), Ok(()));
        }
    }
}

#[test]
fn scores_that_overflow_exp_stay_finite() {
    let mut qkv: Tensor<Act, 4> = random([9, 3, 1, 64], 3);
    qkv.host_mut().iter_mut().for_each(|value| *value *= 60.0);
    let expected = expected(&qkv, 1.0, |_, _, _| 0.0);
    let mut out = Tensor::<Act, 2>::zeros([9, 64]);
    attention(out.matrix_mut(), &qkv, Mask::None, 1.0).unwrap();
    // Scores near 1e5 carry an f32 error near 1e-2, which the exponential passes on.
    let tolerance = Tolerance { atol: 1e-1, rtol: 1e-2, l2: 1e-2 };
    assert_close("attention", out.host(), &expected, tolerance);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let qkv: Tensor<Act, 4> = random([4, 3, 2, 8], 1);
    let mut out = Tensor::<Act, 2>::zeros([4, 8]);
    let error = attention(out.matrix_mut(), &qkv, Mask::None, 1.0).unwrap_err();
    assert_eq!(error.to_string(), "attention: out has shape [4, 8], expected [4, 16]");
}
