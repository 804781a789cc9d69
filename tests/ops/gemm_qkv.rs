//! `gemm_qkv` against plain loops in f64.

mod fp8;

use std::sync::Arc;

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::device::kept::Kept;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm::WeightPart;
use flux_rt::ops::gemm_qkv::QkvSegment;
use flux_rt::ops::gemm_qkv::gemm_qkv;

use crate::at;
use crate::common::F32;
use crate::common::assert_close;
use crate::common::gpu;
use crate::common::gpu::Gpu;
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
    gemm_qkv(&mut qkv, view.map(Into::into), a.matrix(), &segments, &rope).unwrap();
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

/// The rows of a weight that make q, k and v of the first `heads` heads, behind which others are left
/// out, and `mlp` columns.
fn first_heads([heads, left_out]: [usize; 2], head_dim: usize, mlp: usize) -> Kept {
    Kept { parts: 3, of: (heads + left_out) * head_dim, first: heads * head_dim, rest: mlp }
}

/// The op on either device: rows of two segments, heads, those behind them that the weights have and the
/// product leaves out, their size, K, MLP columns.
#[derive(Debug, Clone, Copy)]
struct Fused {
    rows: [usize; 2],
    heads: usize,
    left_out: usize,
    head_dim: usize,
    k: usize,
    mlp: usize,
}

impl Fused {
    /// q, k, v and behind them the MLP's columns.
    fn run(&self, device: &Device) -> Vec<f32> {
        let Self { rows, heads, left_out, head_dim, k, mlp } = *self;
        let seq = rows[0] + rows[1];
        let kept = first_heads([heads, left_out], head_dim, mlp);
        let (n, all) = (kept.count(), 3 * kept.of + mlp);
        let a = gpu::act(device, gpu::around([seq, k], 8), 1);
        let rope = gpu::f32s(device, [seq, head_dim / 2, 2], 2);
        let weight = |seed| {
            let all = Weight::Bf16(gpu::weights(device, [all, k], seed));
            if left_out == 0 {
                return all;
            }
            Weight::Part(WeightPart { of: Arc::new(all), rows: kept, columns: Kept::all(k) })
        };
        let streams = [3, 7].map(|seed| Stream {
            linear: Linear { weight: weight(seed), bias: Some(gpu::f32s(device, [n], seed + 1)) },
            q_norm: gpu::f32s(device, [head_dim], seed + 2),
            k_norm: gpu::f32s(device, [head_dim], seed + 3),
        });
        let segments = [(0, 0..rows[0]), (1, rows[0]..seq)].map(|(index, rows)| QkvSegment {
            rows,
            linear: &streams[index].linear,
            q_norm: &streams[index].q_norm,
            k_norm: &streams[index].k_norm,
        });
        let count = if rows[1] == 0 { 1 } else { 2 };
        let mut qkv = Tensor::empty(device, [seq, 3, heads, head_dim]).unwrap();
        let mut out = gpu::framed(device, [seq, mlp], 8);
        let view = (mlp > 0).then(|| gpu::inside_mut(&mut out, 8));
        gemm_qkv(&mut qkv, view.map(Into::into), gpu::inside(&a, 8), &segments[..count], &rope)
            .unwrap();
        [gpu::host(qkv), gpu::unframed(out, 8)].concat()
    }

    fn check(&self, gpu: &Gpu) {
        gpu.agrees(&format!("{self:?}"), gpu::BF16, |device| self.run(device));
    }
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    let rows = [[1, 0], [0, 1], [1, 63], [65, 0], [64, 65], [127, 2], [128, 128], [37, 92]];
    let widths = [0, 8, 64, 72, 136, 264];
    let depths = [8, 56, 64, 72, 136];
    let shapes = [16, 32, 64, 128].map(|head_dim| [1, 2, 3, 5].map(|heads| [head_dim, heads]));
    for (index, [head_dim, heads]) in shapes.into_iter().flatten().enumerate() {
        for (turn, rows) in rows.into_iter().enumerate() {
            let (k, mlp) = (depths[(index + turn) % 5], widths[(index + 5 * turn) % 6]);
            Fused { rows, heads, left_out: turn % 3, head_dim, k, mlp }.check(&gpu);
        }
    }
    // So many tiles that a large card takes its larger ones.
    for (rows, heads) in [([300, 721], 24), ([77, 435], 7), ([8897, 63], 1), ([1, 4607], 24)] {
        for mlp in [0, 392] {
            for left_out in [0, 2] {
                Fused { rows, heads, left_out, head_dim: 128, k: 72, mlp }.check(&gpu);
            }
        }
        Fused { rows, heads, left_out: 0, head_dim: 64, k: 72, mlp: 136 }.check(&gpu);
    }
}

#[test]
fn cuda_agrees_at_the_models_sizes() {
    let Some(gpu) = gpu::gpu() else { return };
    if gpu.small() {
        return;
    }
    for (rows, mlp) in [([512, 4096], 0), ([4608, 0], 12_288)] {
        Fused { rows, heads: 24, left_out: 0, head_dim: 128, k: 3072, mlp }.check(&gpu);
    }
    for (rows, mlp) in [([64, 640], 0), ([700, 0], 9216)] {
        Fused { rows, heads: 18, left_out: 6, head_dim: 128, k: 3072, mlp }.check(&gpu);
    }
}
