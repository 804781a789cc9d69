//! `attention` against plain loops in f64.

use proptest::prelude::*;

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Quantized;
use flux_rt::device::QuantizedQkv;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::device::e4m3;
use flux_rt::ops::attention::Mask;
use flux_rt::ops::attention::attention;
use flux_rt::ops::attention::attention_fp8;
use flux_rt::ops::quantize_qkv::quantize_qkv;

use crate::common::F32;
use crate::common::Tolerance;
use crate::common::assert_close;
use crate::common::difference;
use crate::common::gpu;
use crate::common::gpu::Gpu;
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

/// Rounding the probabilities to bf16 before the second product changes a result by at most 2^-8 of
/// the largest value, here 1; on average over many keys by less than the last rounding does.
const CUDA: Tolerance = Tolerance { atol: 1.0 / 128.0, rtol: 1.0 / 128.0, l2: 4e-3 };

/// The op on either device; mask 0, 1, 2: none, causal, relative.
#[derive(Debug, Clone, Copy)]
struct Heads {
    seq: usize,
    heads: usize,
    dim: usize,
    mask: usize,
}

impl Heads {
    #[expect(clippy::cast_precision_loss, reason = "a head size is a small number")]
    fn run(&self, device: &Device) -> Vec<f32> {
        let Self { seq, heads, dim, mask } = *self;
        let qkv = gpu::act(device, [seq, 3, heads, dim], 1);
        let table = gpu::f32s(device, [heads, 2 * seq - 1], 2);
        let mask = [Mask::None, Mask::Causal, Mask::Relative(&table)][mask];
        // Scores of size 2: uneven probabilities, as in a model.
        let scale = 5.0 / (dim as f32).sqrt();
        // Rows of 16-byte parts where the kernels need them.
        let pad = if dim.is_multiple_of(8) { 8 } else { 3 };
        let mut out = gpu::framed(device, [seq, heads * dim], pad);
        attention(gpu::inside_mut(&mut out, pad), &qkv, mask, scale).unwrap();
        gpu::unframed(out, pad)
    }

    fn check(&self, gpu: &Gpu) {
        gpu.agrees(&format!("{self:?}"), CUDA, |device| self.run(device));
    }
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for (index, seq) in [1, 2, 31, 63, 64, 65, 127, 128, 129, 200, 257].into_iter().enumerate() {
        let heads = 1 + index % 3;
        // Kernels of their own; then the general one, for any mask and head size.
        for (dim, masks) in
            [(128, 0..3), (64, 0..3), (16, 0..3), (80, 0..3), (100, 0..3), (7, 0..3)]
        {
            masks.for_each(|mask| Heads { seq, heads, dim, mask }.check(&gpu));
        }
        for dim in [136, 256, 512] {
            Heads { seq, heads, dim, mask: 0 }.check(&gpu);
        }
    }
}

#[test]
fn cuda_agrees_at_the_models_sizes() {
    let Some(gpu) = gpu::gpu() else { return };
    if gpu.small() {
        return;
    }
    for (seq, heads, dim, mask) in [
        // The transformer, CLIP, T5, the VAE at 1024 x 1024.
        (4608, 24, 128, 0),
        // Tiles shared by keys, whose last block is ragged.
        (1300, 24, 128, 0),
        (77, 12, 64, 1),
        (512, 64, 64, 2),
        (16_384, 1, 512, 0),
    ] {
        Heads { seq, heads, dim, mask }.check(&gpu);
    }
}

#[test]
fn cuda_keeps_scores_that_overflow_exp_finite() {
    let Some(gpu) = gpu::gpu() else { return };
    let run = |device: &Device| {
        let mut qkv: Tensor<Act, 4> = gpu::act(&Device::Cpu, [130, 3, 2, 64], 3);
        // Whole numbers of at most 8, and v of at most 1: scores of up to 4,096 are exact in f32.
        qkv.host_mut().chunks_exact_mut(2 * 64).enumerate().for_each(|(part, values)| {
            values
                .iter_mut()
                .filter(|_| part % 3 < 2)
                .for_each(|value| *value = (8.0 * *value).round());
        });
        let mut out = gpu::framed(device, [130, 128], 0);
        attention(gpu::inside_mut(&mut out, 0), &gpu::to(device, qkv), Mask::None, 1.0).unwrap();
        gpu::unframed(out, 0)
    };
    gpu.agrees("large scores", CUDA, run);
}

/// v's units.
fn units(device: &Device, channels: usize) -> Tensor<f32, 1> {
    let units = (0..channels).map(|index| [0.125, 0.25, 0.5][index % 3]).collect();
    gpu::to(device, Tensor::from_host([channels], units))
}

fn in_e4m3(qkv: &Tensor<Act, 4>, bound: f32) -> QuantizedQkv {
    let [seq, _, heads, dim] = qkv.shape();
    let mut quantized = QuantizedQkv::empty(&Device::Cpu, [seq, heads, dim]).unwrap();
    quantize_qkv(&mut quantized, qkv, [bound; 2], &units(&Device::Cpu, heads * dim)).unwrap();
    quantized
}

#[test]
fn fp8_is_near() {
    for (seq, heads, dim) in [(5, 1, 64), (77, 2, 64), (130, 3, 128)] {
        let qkv: Tensor<Act, 4> = random([seq, 3, heads, dim], 1);
        let mut expected = Tensor::<Act, 2>::zeros([seq, heads * dim]);
        attention(expected.matrix_mut(), &qkv, Mask::None, 0.5).unwrap();
        let mut out = Tensor::<Act, 2>::zeros([seq, heads * dim]);
        let units = units(&Device::Cpu, heads * dim);
        attention_fp8(out.matrix_mut(), &in_e4m3(&qkv, 1.0), &units, 0.5).unwrap();
        let near = Tolerance { atol: 0.1, rtol: 0.1, l2: 8e-2 };
        assert_close(&format!("{seq} x {heads} x {dim}"), out.host(), expected.host(), near);
        let rounded = difference(out.host(), expected.host(), F32);
        assert!(rounded.is_err(), "nothing was rounded");
    }
}

/// Every query sees one key alone: the output is that key's value, rounded to e4m3 once.
#[test]
fn fp8_finds_each_key_where_it_lies() {
    let (seq, heads, dim) = (50, 2, 128);
    let mut values = random::<Act, 4>([seq, 3, heads, dim], 1).host().to_vec();
    let seen = |query: usize| (7 * query + 3) % seq;
    for token in 0..seq {
        for head in 0..heads {
            let at = |part: usize, d: usize| ((token * 3 + part) * heads + head) * dim + d;
            for d in 0..dim {
                values[at(0, d)] = if d == seen(token) { 1.0 } else { 0.0 };
                values[at(1, d)] = if d == token { 1.0 } else { 0.0 };
            }
        }
    }
    let qkv = Tensor::<Act, 4>::from_host([seq, 3, heads, dim], values);
    let mut out = Tensor::<Act, 2>::zeros([seq, heads * dim]);
    let units = units(&Device::Cpu, heads * dim);
    attention_fp8(out.matrix_mut(), &in_e4m3(&qkv, 1.0), &units, 40.0).unwrap();
    for query in 0..seq {
        for head in 0..heads {
            let value = &qkv.host()[((seen(query) * 3 + 2) * heads + head) * dim..][..dim];
            let out = &out.matrix().row(query)[head * dim..][..dim];
            let step = Tolerance { atol: 3e-3, rtol: 0.07, l2: 4e-2 };
            assert_close(&format!("query {query}"), out, value, step);
        }
    }
}

/// Sums in another order, and probabilities that are rounded relative to what was the largest so far.
const FP8: Tolerance = Tolerance { atol: 6e-2, rtol: 3e-2, l2: 1.5e-2 };

/// Operands of the GPU's kernel, whose scores are of size 2, and of the last keys `rise` times that.
#[expect(clippy::cast_precision_loss, reason = "a few thousand keys")]
fn quantised(device: &Device, [seq, heads]: [usize; 2], rise: f32) -> QuantizedQkv {
    let mut qkv = gpu::act(&Device::Cpu, [seq, 3, heads, 128], 1).host().to_vec();
    for (index, value) in qkv.iter_mut().enumerate() {
        let (token, part) = (index / (3 * heads * 128), index / (heads * 128) % 3);
        if part == 1 {
            *value *= 1.0 + (rise - 1.0) * token as f32 / seq as f32;
        }
    }
    let qkv = Tensor::<Act, 4>::from_host([seq, 3, heads, 128], qkv);
    let mut quantized = QuantizedQkv::empty(&Device::Cpu, [seq, heads, 128]).unwrap();
    let units = units(&Device::Cpu, heads * 128);
    quantize_qkv(&mut quantized, &qkv, [1.0, rise], &units).unwrap();
    let QuantizedQkv { qk, qk_scales, v } = quantized;
    QuantizedQkv { qk: gpu::to(device, qk), qk_scales, v: gpu::to(device, v) }
}

const FP8_SCALE: f32 = 0.45;

#[test]
fn cuda_fp8_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    let shapes = [(1, 1), (2, 3), (64, 1), (127, 2), (128, 5), (129, 2), (300, 24), (1300, 3)];
    let large = [(2900, 2)].into_iter().filter(|_| !gpu.small());
    for (index, (seq, heads)) in shapes.into_iter().chain(large).enumerate() {
        let rise = if index % 2 == 0 { 4.0 } else { 1.0 };
        gpu.agrees(&format!("{seq} x {heads}, {rise}"), FP8, |device| {
            let qkv = quantised(device, [seq, heads], rise);
            let mut out = gpu::framed(device, [seq, heads * 128], 8);
            let units = units(device, heads * 128);
            attention_fp8(gpu::inside_mut(&mut out, 8), &qkv, &units, FP8_SCALE).unwrap();
            gpu::unframed(out, 8)
        });
    }
}

/// What it writes in e4m3 is what it writes in bf16, rounded; between what others write.
#[test]
fn cuda_fp8_quantises_its_output() {
    let Some(gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    gpu.on_each_tier(|| {
        for shape in [[1, 1], [77, 3], [300, 24], [1300, 2]] {
            quantises_its_output(&gpu, shape);
        }
    });
}

fn quantises_its_output(device: &Device, [seq, heads]: [usize; 2]) {
    let (qkv, width) = (quantised(device, [seq, heads], 1.0), heads * 128);
    let units = units(device, width);
    let mut whole = gpu::to(device, Tensor::<Act, 2>::zeros([seq, width]));
    attention_fp8(whole.matrix_mut(), &qkv, &units, FP8_SCALE).unwrap();
    let whole = gpu::host(whole);
    let out = Quantized::zeros([seq, width + 256], Scaling::Units);
    let mut out = out.to_device(device).unwrap();
    let inside = out.view_mut().columns(128..128 + width);
    attention_fp8(inside, &qkv, &units, FP8_SCALE).unwrap();
    let (out, units) = (out.to_device(&Device::Cpu).unwrap(), gpu::host(units));
    for row in 0..seq {
        let values = out.view().values.row(row);
        let (before, rest) = values.split_at(128);
        let (values, behind) = rest.split_at(width);
        assert!(before.iter().chain(behind).all(|&value| value == 0), "row {row}");
        for (column, &value) in values.iter().enumerate() {
            // A quarter of v's unit.
            let (exact, unit) = (whole[row * width + column], units[column] / 4.0);
            let error = (e4m3::to_f32(value) * unit - exact).abs();
            let step = exact.abs() * (1.0 / 16.0 + 1.0 / 128.0) + unit / 512.0;
            assert!(error <= step, "{row} {column}: {value} for {exact}");
        }
    }
}

/// Enough runs to meet a load that comes too late now and then.
#[test]
fn cuda_repeats_itself() {
    let Some(gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    if gpu.small() {
        return;
    }
    let device: &Device = &gpu;
    let shape = [1537, 24 * 128];
    let qkv = gpu::act(device, [1537, 3, 24, 128], 1);
    let (quantized, units) = (quantised(device, [1537, 24], 4.0), units(device, 24 * 128));
    let mut out = gpu::to(device, Tensor::<Act, 2>::zeros(shape));
    for fp8 in [false, true] {
        let mut run = || {
            match fp8 {
                false => attention(out.matrix_mut(), &qkv, Mask::None, FP8_SCALE).unwrap(),
                true => {
                    attention_fp8(out.matrix_mut(), &quantized, &units, FP8_SCALE).unwrap();
                }
            }
            let mut copy = gpu::to(device, Tensor::<Act, 2>::zeros(shape));
            copy.matrix_mut().copy_from(out.matrix()).unwrap();
            gpu::host(copy)
        };
        let first = run();
        for repeat in 0..300 {
            assert!(run() == first, "fp8 {fp8}, run {repeat}");
        }
    }
}
