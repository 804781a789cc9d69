//! `gemm_qkv` against plain loops in f64.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm_qkv::QkvSegment;
use flux_rt::ops::gemm_qkv::gemm_qkv;

use crate::at;
use crate::common::F32;
use crate::common::assert_close;
use crate::gelu;
use crate::narrow;
use crate::random;

const HEADS: usize = 3;
const HEAD_DIM: usize = 8;
const MLP: usize = 11;
const K: usize = 19;

struct Stream {
    linear: Linear,
    q_norm: Tensor<f32, 1>,
    k_norm: Tensor<f32, 1>,
}

fn stream(seed: u64, mlp: usize) -> Stream {
    let n = 3 * HEADS * HEAD_DIM + mlp;
    Stream {
        linear: Linear {
            weight: Weight::F32(random([n, K], seed)),
            bias: Some(random([n], seed + 1)),
        },
        q_norm: random([HEAD_DIM], seed + 2),
        k_norm: random([HEAD_DIM], seed + 3),
    }
}

/// The whole op on one row, in f64: q, k, v heads, then the MLP.
fn expected_row(a: &[f32], stream: &Stream, rope: &[f32], row: usize, mlp: usize) -> Vec<f64> {
    let Weight::F32(weight) = &stream.linear.weight else { panic!("f32 weights") };
    let bias = stream.linear.bias.as_ref().unwrap().host();
    let n = 3 * HEADS * HEAD_DIM + mlp;
    let mut values: Vec<f64> = (0..n)
        .map(|column| {
            let sum: f64 = (0..K).map(|i| at(a, K, row, i) * at(weight.host(), K, column, i)).sum();
            sum + f64::from(bias[column])
        })
        .collect();
    for part in 0..2 {
        let norm = if part == 0 { &stream.q_norm } else { &stream.k_norm };
        for head in 0..HEADS {
            let head = &mut values[(part * HEADS + head) * HEAD_DIM..][..HEAD_DIM];
            let mean: f64 = head.iter().map(|x| x * x).sum::<f64>() / HEAD_DIM as f64;
            for (value, weight) in head.iter_mut().zip(norm.host()) {
                *value *= f64::from(*weight) / (mean + 1e-6).sqrt();
            }
            for pair in 0..HEAD_DIM / 2 {
                let (even, odd) = (head[2 * pair], head[2 * pair + 1]);
                let cos = at(rope, HEAD_DIM, row, 2 * pair);
                let sin = at(rope, HEAD_DIM, row, 2 * pair + 1);
                head[2 * pair] = even * cos - odd * sin;
                head[2 * pair + 1] = odd * cos + even * sin;
            }
        }
    }
    values[3 * HEADS * HEAD_DIM..].iter_mut().for_each(|value| *value = gelu(*value));
    values
}

fn check(rows: [usize; 2], mlp_width: usize) {
    let seq = rows[0] + rows[1];
    let streams = [stream(1, mlp_width), stream(9, mlp_width)];
    let a: Tensor<Act, 2> = random([seq, K], 20);
    let rope: Tensor<f32, 3> = random([seq, HEAD_DIM / 2, 2], 21);
    let segments = [(0, 0..rows[0]), (1, rows[0]..seq)].map(|(index, rows)| QkvSegment {
        rows,
        linear: &streams[index].linear,
        q_norm: &streams[index].q_norm,
        k_norm: &streams[index].k_norm,
    });
    let mut qkv = Tensor::zeros([seq, 3, HEADS, HEAD_DIM]);
    let mut mlp = Tensor::<Act, 2>::zeros([seq, mlp_width.max(1)]);
    let view = (mlp_width > 0).then(|| mlp.matrix_mut());
    gemm_qkv(&mut qkv, view, a.matrix(), &segments, &rope).unwrap();
    let width = 3 * HEADS * HEAD_DIM;
    for row in 0..seq {
        let stream = &streams[usize::from(row >= rows[0])];
        let expected: Vec<f32> = expected_row(a.host(), stream, rope.host(), row, mlp_width)
            .into_iter()
            .map(narrow)
            .collect();
        assert_close("qkv", &qkv.host()[row * width..][..width], &expected[..width], F32);
        if mlp_width > 0 {
            assert_close("mlp", mlp.matrix().row(row), &expected[width..], F32);
        }
    }
}

#[test]
fn two_streams() {
    check([5, 12], 0);
    check([0, 3], 0);
}

#[test]
fn single_block_with_its_mlp() {
    check([1, 40], MLP);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let stream = stream(1, 0);
    let a: Tensor<Act, 2> = random([4, K], 2);
    let rope: Tensor<f32, 3> = random([3, HEAD_DIM / 2, 2], 3);
    let segments = [QkvSegment {
        rows: 0..4,
        linear: &stream.linear,
        q_norm: &stream.q_norm,
        k_norm: &stream.k_norm,
    }];
    let mut qkv = Tensor::zeros([4, 3, HEADS, HEAD_DIM]);
    let error = gemm_qkv(&mut qkv, None, a.matrix(), &segments, &rope).unwrap_err();
    assert_eq!(error.to_string(), "gemm_qkv: rope has shape [3, 4, 2], expected [4, 4, 2]");
}
