//! `gemm` over e4m3, against the same over the numbers that it stands for.

use flux_rt::Result;
use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Output;
use flux_rt::device::Quantized;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::device::e4m3;
use flux_rt::ops::ModulationVector;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Segment;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm::gemm;
use flux_rt::ops::gemm::whole;
use flux_rt::ops::quantize::quantize;

use crate::common::Tolerance;
use crate::common::gpu;
use crate::random;

/// What a quantised matrix stands for, as a tensor.
fn dequantized(quantized: &Quantized) -> Tensor<Act, 2> {
    let view = quantized.view();
    let [rows, width] = view.shape();
    let block = if view.scaling == Scaling::Row { width } else { 128 };
    let element = |index: usize| {
        let (row, column) = (index / width, index % width);
        e4m3::to_f32(view.values.row(row)[column]) * view.scales.row(column / block)[row]
    };
    Tensor::from_host([rows, width], (0..rows * width).map(element).collect())
}

fn quantized(x: &Tensor<Act, 2>, scaling: Scaling) -> Quantized {
    let mut out = Quantized::empty(&Device::Cpu, x.shape(), scaling).unwrap();
    quantize(out.view_mut(), x.matrix()).unwrap();
    out
}

/// e4m3 operands give what their numbers give, and a quantised output is the output quantised.
#[test]
fn fp8_operands_are_the_numbers_that_they_stand_for() {
    for (m, n, k, scaling) in [
        (1, 8, 128, Scaling::Row),
        (5, 130, 300, Scaling::Row),
        (5, 130, 300, Scaling::Block),
        (33, 600, 72, Scaling::Block),
    ] {
        let a = quantized(&random([m, k], 1), scaling);
        let weight = quantized(&random([n, k], 2), Scaling::Row);
        let bias: Tensor<f32, 1> = random([n], 3);
        let same_bias = || Some(Tensor::from_host([n], bias.host().to_vec()));
        let wide = Tensor::from_host([n, k], dequantized(&weight).host().to_vec());
        let wide = Linear { weight: Weight::F32(wide), bias: same_bias() };
        let linear = Linear { weight: Weight::Fp8(weight), bias: same_bias() };
        let (mut expected, mut out) = (Tensor::zeros([m, n]), Tensor::zeros([m, n]));
        let numbers = dequantized(&a);
        let gelu = Activation::GeluTanh;
        gemm(expected.matrix_mut(), numbers.matrix(), None, &whole(&wide, m), gelu).unwrap();
        gemm(out.matrix_mut(), a.view(), None, &whole(&linear, m), gelu).unwrap();
        assert_eq!(out.host(), expected.host(), "{m} x {n} x {k}");
        let mut narrow = Quantized::empty(&Device::Cpu, [m, n], Scaling::Block).unwrap();
        gemm(narrow.view_mut(), a.view(), None, &whole(&linear, m), gelu).unwrap();
        let expected = quantized(&expected, Scaling::Block);
        assert_eq!(dequantized(&narrow).host(), dequantized(&expected).host(), "{m} x {n} x {k}");
    }
}

/// `a` and weights in e4m3, one or two segments of rows, with bias, and where `gated` gate and residual.
fn fp8_product(device: &Device, shape: Fp8Shape, out: &mut Output<'_>) -> Result<()> {
    let Fp8Shape { rows, n, k, scaling, gated, gelu } = shape;
    let m = rows[0] + rows[1];
    let a = quantized(&gpu::act(&Device::Cpu, [m, k], 1), scaling).to_device(device)?;
    let linear = |seed| -> Result<Linear> {
        let weight = gpu::act(&Device::Cpu, [n, k], seed);
        let weight = quantized(&weight, Scaling::Row).to_device(device)?;
        let bias = Some(gpu::f32s(device, [n], seed + 1));
        Ok(Linear { weight: Weight::Fp8(weight), bias })
    };
    let linears = [linear(3)?, linear(5)?];
    let table = gpu::act(device, [3, 8 + 2 * n], 7);
    let step = gpu::to(device, Tensor::from_host([1], vec![2u32]));
    let residual = gpu::act(device, [m, n], 8);
    let segment = |index: usize, rows| Segment {
        rows,
        linear: &linears[index],
        gate: gated.then_some(ModulationVector {
            table: &table,
            step: &step,
            column: 8 + index * n,
        }),
    };
    let mut segments = vec![segment(0, 0..rows[0])];
    if rows[1] > 0 {
        segments.push(segment(1, rows[0]..m));
    }
    let residual = gated.then(|| residual.matrix());
    let activation = if gelu { Activation::GeluTanh } else { Activation::None };
    gemm(out.reborrow(), a.view(), residual, &segments, activation)
}

#[derive(Debug, Clone, Copy)]
struct Fp8Shape {
    rows: [usize; 2],
    n: usize,
    k: usize,
    scaling: Scaling,
    gated: bool,
    gelu: bool,
}

#[test]
fn cuda_fp8_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    if !gpu.has_fp8() {
        return println!("skipped: no kernels for e4m3 on this GPU");
    }
    // The sums of Hopper's fp8 products keep some 13 bits of the largest term.
    let tolerance = Tolerance { atol: 3e-2, rtol: 3e-2, l2: 8e-3 };
    let small =
        [([1, 0], 16, 16), ([63, 2], 80, 144), ([130, 257], 400, 272), ([512, 700], 272, 3072)];
    let real = [([512, 4096], 3072, 3072), ([4608, 0], 3072, 15_360), ([512, 4096], 3072, 12_288)];
    let real = real.into_iter().filter(|_| !gpu.small());
    for (rows, n, k) in small.into_iter().chain(real) {
        for scaling in [Scaling::Row, Scaling::Block] {
            for gated in [false, true] {
                let shape = Fp8Shape { rows, n, k, scaling, gated, gelu: false };
                gpu.agrees_on_best(&format!("{shape:?}"), tolerance, |device| {
                    let mut out = Tensor::<Act, 2>::empty(device, [rows[0] + rows[1], n]).unwrap();
                    fp8_product(device, shape, &mut out.matrix_mut().into()).unwrap();
                    // Products of so many terms of size 1 are of that size.
                    let size = f32::from(u16::try_from(k).unwrap()).sqrt() / 3.0;
                    gpu::host(out).into_iter().map(|value| value / size).collect()
                });
            }
        }
    }
}

#[test]
fn cuda_fp8_quantises_gelu_as_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    if !gpu.has_fp8() {
        return println!("skipped: no kernels for e4m3 on this GPU");
    }
    let small = [([1, 0], 16, 16), ([63, 2], 256, 144), ([130, 257], 400, 272)];
    let real = [([512, 4096], 12_288, 3072)].into_iter().filter(|_| !gpu.small());
    let tolerance = Tolerance { atol: 6e-2, rtol: 0.14, l2: 2e-2 };
    for (rows, n, k) in small.into_iter().chain(real) {
        let shape = Fp8Shape { rows, n, k, scaling: Scaling::Row, gated: false, gelu: true };
        gpu.agrees_on_best(&format!("{shape:?}"), tolerance, |device| {
            let shape_of = [rows[0] + rows[1], n];
            let mut out = Quantized::empty(device, shape_of, Scaling::Block).unwrap();
            fp8_product(device, shape, &mut out.view_mut().into()).unwrap();
            let numbers = dequantized(&out.to_device(&Device::Cpu).unwrap());
            let size = f32::from(u16::try_from(k).unwrap()).sqrt() / 3.0;
            numbers.host().iter().map(|value| value / size).collect()
        });
    }
}
