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
use crate::common::gpu::Gpu;
use crate::random;

/// What a quantised matrix stands for, in units of its columns.
fn dequantized(quantized: &Quantized) -> Tensor<Act, 2> {
    let view = quantized.view();
    let [rows, width] = view.shape();
    let element = |index: usize| {
        let (row, column) = (index / width, index % width);
        e4m3::to_f32(view.values.row(row)[column]) * view.scales.row(0)[row]
    };
    Tensor::from_host([rows, width], (0..rows * width).map(element).collect())
}

fn quantized(x: &Tensor<Act, 2>, scaling: Scaling, units: Option<&Tensor<f32, 1>>) -> Quantized {
    let mut out = Quantized::empty(&Device::Cpu, x.shape(), scaling).unwrap();
    quantize(out.view_mut(), x.matrix(), units).unwrap();
    out
}

/// Sums of K products are of the size of its root.
fn size(k: usize) -> f32 {
    f32::from(u16::try_from(k).unwrap()).sqrt() / 3.0
}

/// Powers of two near that.
fn units(device: &Device, columns: usize, k: usize) -> Tensor<f32, 1> {
    let near = size(k).log2().floor().exp2();
    let units = (0..columns).map(|index| near * [0.5, 1.0, 2.0][index % 3]).collect();
    gpu::to(device, Tensor::from_host([columns], units))
}

/// e4m3 operands give what their numbers give, and a quantised output is the output quantised.
#[test]
fn fp8_operands_are_the_numbers_that_they_stand_for() {
    for (m, n, k, scaling) in [
        (1, 8, 128, Scaling::Row),
        (5, 130, 300, Scaling::Row),
        (5, 130, 300, Scaling::Units),
        (33, 600, 72, Scaling::Units),
    ] {
        let a = quantized(&random([m, k], 1), scaling, None);
        let weight = quantized(&random([n, k], 2), Scaling::Row, None);
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
        let mut narrow = Quantized::empty(&Device::Cpu, [m, n], Scaling::Units).unwrap();
        let units = units(&Device::Cpu, n, k);
        let to = Output::Fp8 { out: narrow.view_mut(), units: Some(&units), staging: None };
        gemm(to, a.view(), None, &whole(&linear, m), gelu).unwrap();
        let expected = quantized(&expected, Scaling::Units, Some(&units));
        assert_eq!(dequantized(&narrow).host(), dequantized(&expected).host(), "{m} x {n} x {k}");
    }
}

/// `a` and weights in e4m3, one or two segments of rows, with bias, and where `gated` gate and residual.
fn fp8_product(device: &Device, shape: Fp8Shape, out: &mut Output<'_>) -> Result<()> {
    let Fp8Shape { rows, n, k, scaling, gated, gelu } = shape;
    let m = rows[0] + rows[1];
    let a = quantized(&gpu::act(&Device::Cpu, [m, k], 1), scaling, None).to_device(device)?;
    let linear = |seed| -> Result<Linear> {
        let weight = gpu::act(&Device::Cpu, [n, k], seed);
        let weight = quantized(&weight, Scaling::Row, None).to_device(device)?;
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
    let Some(gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    // The sums of Hopper's fp8 products keep some 13 bits of the largest term.
    let tolerance = Tolerance { atol: 3e-2, rtol: 3e-2, l2: 8e-3 };
    let small =
        [([1, 0], 16, 16), ([63, 2], 80, 144), ([130, 257], 400, 272), ([512, 700], 272, 3072)];
    // More tiles than multiprocessors, and no more rows than that takes: the oracle is slow.
    let real = [([512, 1536], 3072, 3072), ([2048, 0], 3072, 15_360), ([512, 1536], 3072, 12_288)];
    let ways = [Scaling::Row, Scaling::Units].map(|scaling| [(scaling, false), (scaling, true)]);
    let small =
        small.into_iter().flat_map(|shape| ways.concat().into_iter().map(move |way| (shape, way)));
    let real = real.into_iter().map(|shape| (shape, (Scaling::Units, true)));
    for ((rows, n, k), (scaling, gated)) in small.chain(real.filter(|_| !gpu.small())) {
        let shape = Fp8Shape { rows, n, k, scaling, gated, gelu: false };
        gpu.agrees(&format!("{shape:?}"), tolerance, |device| {
            let mut out = Tensor::<Act, 2>::empty(device, [rows[0] + rows[1], n]).unwrap();
            fp8_product(device, shape, &mut out.matrix_mut().into()).unwrap();
            gpu::host(out).into_iter().map(|value| value / size(k)).collect()
        });
    }
}

#[test]
fn cuda_fp8_quantises_gelu_as_the_oracle() {
    let Some(gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    let small = [([1, 0], 16, 16), ([63, 2], 256, 144), ([130, 257], 400, 272)];
    let real = [([512, 512], 12_288, 3072)].into_iter().filter(|_| !gpu.small());
    let tolerance = Tolerance { atol: 6e-2, rtol: 0.14, l2: 2e-2 };
    for (rows, n, k) in small.into_iter().chain(real) {
        let shape = Fp8Shape { rows, n, k, scaling: Scaling::Row, gated: false, gelu: true };
        gpu.agrees(&format!("{shape:?}"), tolerance, |device| {
            let shape_of = [rows[0] + rows[1], n];
            let mut out = Quantized::empty(device, shape_of, Scaling::Units).unwrap();
            let units = units(device, n, k);
            let mut to = Output::Fp8 { out: out.view_mut(), units: Some(&units), staging: None };
            fp8_product(device, shape, &mut to).unwrap();
            let (out, units) = (out.to_device(&Device::Cpu).unwrap(), gpu::host(units));
            let numbers = dequantized(&out);
            let numbers = numbers.host().iter().enumerate();
            numbers.map(|(index, value)| value * units[index % n] / size(k)).collect()
        });
    }
}
