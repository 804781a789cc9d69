//! `gemm` with some rows and columns of a weight, against the same gathered into a matrix of their own.

use std::sync::Arc;

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Input;
use flux_rt::device::Quantized;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::device::kept::Kept;
use flux_rt::ops::gemm::Activation;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;
use flux_rt::ops::gemm::WeightPart;
use flux_rt::ops::gemm::gemm;
use flux_rt::ops::gemm::whole;
use flux_rt::ops::quantize::quantize;
use half::bf16;

use crate::common::Tolerance;
use crate::common::assert_close;
use crate::common::gpu;
use crate::random;

/// The precisions that a weight is kept in.
const FORMS: [&str; 3] = ["f32", "bf16", "e4m3"];

/// `[n, k]` numbers that every form holds exactly, up to a scale of the row.
fn numbers([n, k]: [usize; 2]) -> Vec<f32> {
    let numbers: Tensor<f32, 1> = random([n * k], 2);
    let mut numbers: Vec<f32> = numbers.host().iter().map(|x| (x * 7.0).round() / 8.0).collect();
    // Each row's scale is the same.
    numbers.chunks_exact_mut(k).for_each(|row| row[0] = 0.875);
    numbers
}

fn weight(form: &str, shape: [usize; 2], numbers: Vec<f32>) -> Weight {
    match form {
        "f32" => Weight::F32(Tensor::from_host(shape, numbers)),
        "bf16" => {
            let numbers = numbers.into_iter().map(bf16::from_f32).collect();
            Weight::Bf16(Tensor::from_host(shape, numbers))
        }
        _ => {
            let numbers = Tensor::<Act, 2>::from_host(shape, numbers);
            let mut out = Quantized::empty(&Device::Cpu, shape, Scaling::Row).unwrap();
            quantize(out.view_mut(), numbers.matrix(), None).unwrap();
            Weight::Fp8(out)
        }
    }
}

fn multiply(weight: Weight, a: &Tensor<Act, 2>) -> Vec<f32> {
    let ([m, _], [n, _]) = (a.shape(), weight.shape());
    let linear = Linear { weight, bias: Some(random([n], 3)) };
    let mut out = Tensor::<Act, 2>::zeros([m, n]);
    gemm(out.matrix_mut(), a.matrix(), None, &whole(&linear, m), Activation::GeluTanh).unwrap();
    out.host().to_vec()
}

/// Widened rows end in the middle of a part, parts have gaps, and inputs too.
#[test]
fn a_part_is_what_it_holds() {
    let shape = [1300, 70];
    let heads = Kept { parts: 3, of: 400, first: 250, rest: 60 };
    let columns = Kept { parts: 1, of: 40, first: 20, rest: 17 };
    for (rows, columns) in
        [(heads, columns), (heads, Kept::all(70)), (Kept::all(900), Kept::all(33))]
    {
        let a: Tensor<Act, 2> = random([5, columns.count()], 1);
        for form in FORMS {
            let numbers = numbers(shape);
            let gathered = rows.all_ranges().into_iter().flatten().flat_map(|row| {
                let row = &numbers[row * shape[1]..][..shape[1]];
                columns.all_ranges().into_iter().flatten().map(|column| row[column])
            });
            let gathered = gathered.collect();
            let expected = multiply(weight("f32", [rows.count(), columns.count()], gathered), &a);
            let of = Arc::new(weight(form, shape, numbers));
            let part = multiply(Weight::Part(WeightPart { of, rows, columns }), &a);
            // 448 is no multiple of 0.875.
            let near = Tolerance { atol: 2e-4, rtol: 2e-4, l2: 1e-4 };
            let near =
                if form == "e4m3" { Tolerance { atol: 0.3, rtol: 0.1, l2: 5e-2 } } else { near };
            assert_close(&format!("{form} {rows:?} {columns:?}"), &part, &expected, near);
        }
    }
}

#[test]
fn cuda_multiplies_the_first_rows_and_columns() {
    let Some(gpu) = gpu::gpu() else { return };
    let small = [(65, [256, 384], [128, 256])];
    let real = [(700, [12_288, 3072], [9216, 3072]), (700, [3072, 15_360], [3072, 12_288])];
    for (m, shape, [n, k]) in small.into_iter().chain(real.into_iter().filter(|_| !gpu.small())) {
        gpu.agrees(&format!("{m} x {n} x {k} of {shape:?}"), gpu::BF16, |device| {
            let of = Arc::new(Weight::Bf16(gpu::weights(device, shape, 2)));
            let (rows, columns) = (Kept::all(n), Kept::all(k));
            let weight = Weight::Part(WeightPart { of, rows, columns });
            let linear = Linear { weight, bias: Some(gpu::f32s(device, [n], 3)) };
            let a = gpu::act(device, [m, k], 1);
            let mut out = Tensor::<Act, 2>::empty(device, [m, n]).unwrap();
            let segments = whole(&linear, m);
            gemm(out.matrix_mut(), a.matrix(), None, &segments, Activation::None).unwrap();
            gpu::host(out)
        });
    }
}

/// As a single block's second layer with fewer heads, in bf16 and in e4m3; the last gap is within a slab.
#[test]
fn cuda_skips_columns_that_are_left_out() {
    let Some(gpu) = gpu::gpu() else { return };
    let columns = |of, first, rest| Kept { parts: 1, of, first, rest };
    let small = [
        (65, [128, 640], columns(256, 128, 256)),
        (300, [272, 512], columns(192, 64, 256)),
        (130, [144, 512], columns(176, 80, 208)),
    ];
    let real = [(700, [3072, 15_360], columns(3072, 2304, 9216))];
    for (m, shape, columns) in small.into_iter().chain(real.into_iter().filter(|_| !gpu.small())) {
        let rows = Kept::all(shape[0]);
        let k = columns.count();
        let product = |device: &Device, weight: Weight, a: Input<'_>| {
            let weight = Weight::Part(WeightPart { of: Arc::new(weight), rows, columns });
            let linear = Linear { weight, bias: Some(gpu::f32s(device, [shape[0]], 3)) };
            let residual = gpu::act(device, [m, shape[0]], 4);
            let mut out = Tensor::<Act, 2>::empty(device, [m, shape[0]]).unwrap();
            let (residual, segments) = (Some(residual.matrix()), whole(&linear, m));
            gemm(out.matrix_mut(), a, residual, &segments, Activation::None).unwrap();
            gpu::host(out)
        };
        gpu.agrees(&format!("{m} x {shape:?} {columns:?}"), gpu::BF16, |device| {
            let a = gpu::act(device, [m, k], 1);
            product(device, Weight::Bf16(gpu::weights(device, shape, 2)), a.matrix().into())
        });
        if gpu.has_fp8() {
            // As of whole weights in e4m3, whose sums are of the size of K's root.
            let near = Tolerance { atol: 3e-2, rtol: 3e-2, l2: 8e-3 };
            let size = f32::from(u16::try_from(k).unwrap()).sqrt() / 3.0;
            gpu.agrees(&format!("e4m3 {m} x {shape:?} {columns:?}"), near, |device| {
                let [a, weight] = [([m, k], 1), (shape, 2)].map(|(shape, seed)| {
                    let x = gpu::act(&Device::Cpu, shape, seed);
                    let mut out = Quantized::empty(&Device::Cpu, shape, Scaling::Row).unwrap();
                    quantize(out.view_mut(), x.matrix(), None).unwrap();
                    out.to_device(device).unwrap()
                });
                let out = product(device, Weight::Fp8(weight), a.view().into());
                out.into_iter().map(|value| value / size).collect()
            });
        }
    }
}

#[test]
fn cuda_refuses_gaps_that_no_kernel_skips() {
    let Some(gpu) = gpu::gpu() else { return };
    let device: &Device = &gpu;
    let two = Kept { parts: 2, of: 128, first: 64, rest: 0 };
    let behind = Kept { parts: 1, of: 64, first: 0, rest: 128 };
    for (rows, columns, expected) in
        [(two, Kept::all(256), "first rows"), (Kept::all(128), behind, "first columns")]
    {
        let of = Arc::new(Weight::Bf16(gpu::weights(device, [256, 256], 2)));
        let weight = Weight::Part(WeightPart { of, rows, columns });
        let linear = Linear { weight, bias: None };
        let a = gpu::act(device, [64, columns.count()], 1);
        let mut out = Tensor::<Act, 2>::empty(device, [64, 128]).unwrap();
        let segments = whole(&linear, 64);
        let refused = gemm(out.matrix_mut(), a.matrix(), None, &segments, Activation::None);
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
}
