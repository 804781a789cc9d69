//! `gemm` against a triple loop in f64.

mod fp8;
mod part;

use half::bf16;
use proptest::prelude::*;

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::ModulationVector;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::gemm::Difference;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Segment;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm::gemm;
use flux_rt::ops::gemm::gemm_with_difference;
use flux_rt::ops::gemm::whole;

use crate::at;
use crate::common::F32;
use crate::common::Tolerance;
use crate::common::assert_close;
use crate::common::difference;
use crate::common::gpu;
use crate::common::gpu::Gpu;
use crate::gelu;
use crate::narrow;
use crate::random;

fn linear(n: usize, k: usize, seed: u64) -> Linear {
    Linear { weight: Weight::F32(random([n, k], seed)), bias: Some(random([n], seed + 1)) }
}

fn activate(x: f64, activation: Activation) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => gelu(x),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
    }
}

/// `a W^T + b` of one row and column in f64.
fn product(a: &[f32], linear: &Linear, row: usize, column: usize) -> f64 {
    let [_, k] = linear.weight.shape();
    let Weight::F32(weight) = &linear.weight else { panic!("f32 weights") };
    let sum: f64 = (0..k).map(|i| at(a, k, row, i) * at(weight.host(), k, column, i)).sum();
    sum + linear.bias.as_ref().map_or(0.0, |bias| f64::from(bias.host()[column]))
}

#[test]
fn hand_worked() {
    let linear = Linear {
        weight: Weight::F32(Tensor::from_host([2, 3], vec![1.0, 2.0, 3.0, -1.0, 0.0, 0.5])),
        bias: Some(Tensor::from_host([2], vec![10.0, -10.0])),
    };
    let a = Tensor::<Act, 2>::from_host([1, 3], vec![1.0, 1.0, 2.0]);
    let mut out = Tensor::zeros([1, 2]);
    gemm(out.matrix_mut(), a.matrix(), None, &whole(&linear, 1), Activation::None).unwrap();
    assert_eq!(out.host(), [19.0, -10.0]);
}

proptest! {
    #![proptest_config(crate::cases(24))]
    #[test]
    fn grouped_with_every_epilogue(
        rows in prop::array::uniform2(0usize..70),
        n in 1usize..130,
        k in 1usize..70,
        activation in prop::sample::select(vec![
            Activation::None, Activation::Silu, Activation::GeluTanh, Activation::QuickGelu,
        ]),
    ) {
        let m = rows[0] + rows[1];
        let a: Tensor<Act, 2> = random([m, k], 1);
        let residual: Tensor<Act, 2> = random([m, n], 2);
        let linears = [linear(n, k, 3), linear(n, k, 5)];
        let table: Tensor<Act, 2> = random([3, 2 * n + 5], 7);
        let step = Tensor::from_host([1], vec![2u32]);
        let gate = |index: usize| ModulationVector { table: &table, step: &step, column: 5 + index * n };
        let segments = [
            Segment { rows: 0..rows[0], linear: &linears[0], gate: None },
            Segment { rows: rows[0]..m, linear: &linears[1], gate: Some(gate(1)) },
        ];
        // Two columns on either side must stay as they are.
        let mut out = Tensor::<Act, 2>::from_host([m, n + 4], vec![7.0; m * (n + 4)]);
        let view = out.matrix_mut().columns(2..n + 2);
        gemm(view, a.matrix(), Some(residual.matrix()), &segments, activation).unwrap();
        let mut expected = vec![7.0; m * (n + 4)];
        for row in 0..m {
            let group = usize::from(row >= rows[0]);
            for column in 0..n {
                let mut value = product(a.host(), &linears[group], row, column);
                if group == 1 {
                    value *= at(table.host(), 2 * n + 5, 2, 5 + n + column);
                }
                value += at(residual.host(), n, row, column);
                expected[row * (n + 4) + 2 + column] = narrow(activate(value, activation));
            }
        }
        prop_assert_eq!(difference(out.host(), &expected, F32), Ok(()));
    }
}

#[test]
fn bf16_weights_are_the_widened_ones() {
    // More rows than are widened at a time, and not a multiple of them.
    let (m, n, k) = (5, 1100, 33);
    let a: Tensor<Act, 2> = random([m, k], 1);
    let values: Vec<bf16> =
        random::<f32, 1>([n * k], 2).host().iter().map(|&x| bf16::from_f32(x)).collect();
    let wide = values.iter().map(|x| x.to_f32()).collect();
    let wide = Linear { weight: Weight::F32(Tensor::from_host([n, k], wide)), bias: None };
    let bf16 = Linear { weight: Weight::Bf16(Tensor::from_host([n, k], values)), bias: None };
    let mut outs = [Tensor::<Act, 2>::zeros([m, n]), Tensor::zeros([m, n])];
    for (out, linear) in outs.iter_mut().zip([&wide, &bf16]) {
        gemm(out.matrix_mut(), a.matrix(), None, &whole(linear, m), Activation::None).unwrap();
    }
    assert_close("bf16", outs[1].host(), outs[0].host(), Tolerance { rtol: 1e-5, ..F32 });
    assert!(outs[0].host().iter().any(|&value| value.abs() > 0.1));
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let linear = linear(4, 3, 1);
    let a = Tensor::<Act, 2>::zeros([2, 3]);
    let mut narrow = Tensor::<Act, 2>::zeros([2, 3]);
    let error = gemm(narrow.matrix_mut(), a.matrix(), None, &whole(&linear, 2), Activation::None)
        .unwrap_err();
    assert_eq!(error.to_string(), "gemm: weight has shape [4, 3], expected [3, 3]");
    let mut out = Tensor::<Act, 2>::zeros([2, 4]);
    let error =
        gemm(out.matrix_mut(), a.matrix(), None, &whole(&linear, 1), Activation::None).unwrap_err();
    assert_eq!(error.to_string(), "gemm: segments has shape 1 rows, expected 2 rows");
}

#[test]
fn the_difference_is_of_the_output_as_stored() {
    let (m, n, k) = (9, 20, 13);
    let linears = [linear(n, k, 1), linear(n, k, 3)];
    let (a, residual): (Tensor<Act, 2>, Tensor<Act, 2>) = (random([m, k], 5), random([m, n], 6));
    let from: Tensor<Act, 2> = random([m + 1, n + 3], 7);
    let segments = [
        Segment { rows: 0..4, linear: &linears[0], gate: None },
        Segment { rows: 4..m, linear: &linears[1], gate: None },
    ];
    let mut outs = [Tensor::<Act, 2>::zeros([m, n]), Tensor::zeros([m, n])];
    let mut change = Tensor::<Act, 2>::from_host([m, n + 2], vec![7.0; m * (n + 2)]);
    let [plain, out] = &mut outs;
    let residual = Some(residual.matrix());
    gemm(plain.matrix_mut(), a.matrix(), residual, &segments, Activation::None).unwrap();
    let difference = Difference {
        out: change.matrix_mut().columns(1..n + 1),
        from: from.matrix().rows(1..m + 1).columns(2..n + 2),
    };
    gemm_with_difference(out.matrix_mut(), difference, a.matrix(), residual, &segments).unwrap();
    assert_eq!(plain.host(), out.host());
    for (row, values) in change.host().chunks_exact(n + 2).enumerate() {
        assert_eq!([values[0], values[n + 1]], [7.0; 2]);
        for (column, &value) in values[1..=n].iter().enumerate() {
            let start = from.host()[(row + 1) * (n + 3) + column + 2];
            assert_eq!(value, out.host()[row * n + column] - start, "{row}, {column}");
        }
    }
    let misfit = Difference { out: change.matrix_mut(), from: from.matrix() };
    let result = gemm_with_difference(out.matrix_mut(), misfit, a.matrix(), residual, &segments);
    assert!(matches!(result, Err(flux_rt::Error::Shape { tensor: "difference", .. })));
}

/// A product on either device, its operands in the middle of larger buffers.
#[derive(Debug, Clone, Copy)]
struct Product {
    rows: [usize; 2],
    n: usize,
    k: usize,
    activation: Activation,
    residual: bool,
    bias: bool,
    /// Per segment.
    gates: [bool; 2],
}

const ACTIVATIONS: [Activation; 4] =
    [Activation::None, Activation::Silu, Activation::GeluTanh, Activation::QuickGelu];

impl Product {
    /// The epilogue that `index` stands for: 48 in all.
    fn new(rows: [usize; 2], n: usize, k: usize, index: usize) -> Self {
        let [residual, bias] = [index / 4 % 2 == 1, index / 8 % 2 == 1];
        let gates = [[false, false], [false, true], [true, true]][index / 16 % 3];
        Self { rows, n, k, activation: ACTIVATIONS[index % 4], residual, bias, gates }
    }

    /// The product; with `difference` what it has become since an earlier tensor, too.
    fn run(&self, device: &Device, difference: bool) -> [Vec<f32>; 2] {
        let Self { rows, n, k, .. } = *self;
        let m = rows[0] + rows[1];
        let a = gpu::act(device, gpu::around([m, k], 8), 1);
        let residual = gpu::act(device, gpu::around([m, n], 16), 2);
        let count = if rows[1] == 0 { 1 } else { 2 };
        let linear = |seed| Linear {
            weight: Weight::Bf16(gpu::weights(device, [n, k], seed)),
            bias: self.bias.then(|| gpu::f32s(device, [n], seed + 1)),
        };
        let linears: Vec<Linear> = [3, 5].into_iter().take(count).map(linear).collect();
        let table = gpu::act(device, [3, 2 * n + 8], 7);
        let step = gpu::to(device, Tensor::from_host([1], vec![2u32]));
        let ranges = [0..rows[0], rows[0]..m];
        let segment = |(index, linear): (usize, _)| Segment {
            rows: ranges[index].clone(),
            linear,
            gate: self.gates[index].then_some(ModulationVector {
                table: &table,
                step: &step,
                column: 8 + index * n,
            }),
        };
        let segments: Vec<Segment<'_>> = linears.iter().enumerate().map(segment).collect();
        let mut out = gpu::framed(device, [m, n], 8);
        let (view, a) = (gpu::inside_mut(&mut out, 8), gpu::inside(&a, 8));
        let residual = self.residual.then(|| gpu::inside(&residual, 16));
        if !difference {
            gemm(view, a, residual, &segments, self.activation).unwrap();
            return [gpu::unframed(out, 8), Vec::new()];
        }
        let from = gpu::act(device, gpu::around([m, n], 24), 9);
        let mut change = gpu::framed(device, [m, n], 32);
        let difference =
            Difference { out: gpu::inside_mut(&mut change, 32), from: gpu::inside(&from, 24) };
        gemm_with_difference(view, difference, a, residual, &segments).unwrap();
        [gpu::unframed(out, 8), gpu::unframed(change, 32)]
    }

    fn check(&self, gpu: &Gpu) {
        gpu.agrees(&format!("{self:?}"), gpu::BF16, |device| self.run(device, false)[0].clone());
    }

    /// The same output with a difference as without, and the difference of exactly that output.
    fn check_difference(&self, gpu: &Gpu) {
        let what = format!("difference, {self:?}");
        let [plain, _] = self.run(gpu, false);
        let both = gpu.run(&what, |device| self.run(device, true).concat());
        let (out, change) = both.split_at(plain.len());
        assert!(out == plain, "{what}: another output, or NaN");
        let shape = [self.rows[0] + self.rows[1], self.n];
        let from = gpu::act(&Device::Cpu, gpu::around(shape, 24), 9);
        let from = gpu::inside(&from, 24);
        let starts = (0..shape[0]).flat_map(|row| from.row(row));
        let mut expected: Vec<f32> = out.iter().zip(starts).map(|(out, from)| out - from).collect();
        gpu::round(&mut expected);
        assert!(change == expected, "{what}: another difference");
    }
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    let rows = [1usize, 63, 64, 65, 127, 128, 129, 257];
    let columns = [8, 56, 64, 72, 120, 128, 136, 248, 256, 264];
    let depths = [8, 56, 64, 72, 136, 520];
    for (index, (m, n)) in rows.iter().flat_map(|m| columns.map(|n| (*m, n))).enumerate() {
        // Segments that do not end where tiles do; now and then one of them is empty.
        let split = [m, m / 2, m.div_ceil(3), 0][index % 4];
        Product::new([split, m - split], n, depths[index % 6], 7 * index).check(&gpu);
    }
    for index in 0..48 {
        Product::new([37, 92], 200, 136, index).check(&gpu);
    }
}

#[test]
fn cuda_agrees_in_every_tile() {
    let Some(gpu) = gpu::gpu() else { return };
    // So many tiles that an H100 is done first with those of 128 x 256, or of 128 x 128, in two
    // segments of ragged ends; without a residual and with all there is.
    // Of Hopper's four tiles each is done first with one of them.
    for (rows, n) in [([300, 721], 3848), ([8897, 63], 392), ([1, 16_999], 120), ([200, 8100], 504)]
    {
        for index in [0, 2, 44, 46] {
            Product::new(rows, n, 72, index).check(&gpu);
        }
    }
}

#[test]
fn cuda_difference_is_of_the_output_as_stored() {
    let Some(gpu) = gpu::gpu() else { return };
    let small = [([1, 0], 8, 8), ([63, 2], 72, 56), ([64, 65], 264, 136), ([0, 129], 128, 64)];
    // In tiles of 128 x 256 and of 128 x 128.
    let large = [([300, 721], 3848, 72), ([8897, 63], 392, 72), ([1, 16_999], 120, 72)];
    let real = [([512, 4096], 3072, 12_288), ([4608, 0], 3072, 15_360)];
    for (rows, n, k) in small.into_iter().chain(large) {
        for index in [0, 12, 32, 44] {
            // One tier: the output is to be the same bits with and without.
            gpu.portable(|| Product::new(rows, n, k, index).check_difference(&gpu));
        }
    }
    for (rows, n, k) in real.into_iter().filter(|_| !gpu.small()) {
        gpu.portable(|| Product::new(rows, n, k, 44).check_difference(&gpu));
    }
}

#[test]
fn cuda_agrees_at_the_models_sizes() {
    let Some(gpu) = gpu::gpu() else { return };
    if gpu.small() {
        return;
    }
    for (rows, n, k, index) in [
        // A double block's output projection, MLP up and down; a single block's linear2.
        ([512, 4096], 3072, 3072, 44),
        ([512, 4096], 12_288, 3072, 10),
        ([512, 4096], 3072, 12_288, 44),
        ([4608, 0], 3072, 15_360, 44),
        // Modulation of 28 steps, half of T5's MLP, CLIP's, the last layer.
        ([28, 0], 18_432, 3072, 8),
        ([512, 0], 10_240, 4096, 0),
        ([77, 0], 3072, 768, 11),
        ([4096, 0], 64, 3072, 8),
    ] {
        Product::new(rows, n, k, index).check(&gpu);
    }
}
