//! `quantize` against its formula: every number becomes the nearest that e4m3 has.

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Quantized;
use flux_rt::device::QuantizedRef;
use flux_rt::device::Scaling;
use flux_rt::device::Tensor;
use flux_rt::device::e4m3;
use flux_rt::ops::quantize::quantize;

use crate::common::gpu;
use crate::random;

/// The nearest number by looking at all; of two as near the one with the even mantissa.
fn nearest(x: f32) -> u8 {
    let distance = |byte: u8| (f64::from(e4m3::to_f32(byte)) - f64::from(x.abs())).abs();
    let least = (0..0x7f_u8)
        .min_by(|&a, &b| distance(a).total_cmp(&distance(b)).then((a % 2).cmp(&(b % 2))));
    least.unwrap() | if x.is_sign_negative() { 0x80 } else { 0 }
}

/// Values, then scales.
fn parts(quantized: QuantizedRef<'_>) -> (Vec<u8>, Vec<f32>) {
    let [rows, _] = quantized.shape();
    let values = (0..rows).flat_map(|row| quantized.values.row(row).to_vec()).collect();
    (values, quantized.scales.row(0).to_vec())
}

fn units(device: &Device, columns: usize) -> Tensor<f32, 1> {
    let units = (-3_i8..=3).map(|exponent| f32::from(exponent).exp2());
    gpu::to(device, Tensor::from_host([columns], units.cycle().take(columns).collect()))
}

#[test]
fn every_number_becomes_the_nearest() {
    for ([rows, columns], scaling) in [
        ([1, 1], Scaling::Row),
        ([3, 200], Scaling::Row),
        ([1, 128], Scaling::Units),
        ([5, 300], Scaling::Units),
    ] {
        for has_units in [false, true] {
            let x: Tensor<Act, 2> = random([rows, columns], 1);
            let units = has_units.then(|| units(&Device::Cpu, columns));
            let mut out = Quantized::empty(&Device::Cpu, [rows, columns], scaling).unwrap();
            quantize(out.view_mut(), x.matrix(), units.as_ref()).unwrap();
            let (values, scales) = parts(out.view());
            for row in 0..rows {
                let divided: Vec<f32> = (0..columns)
                    .map(|column| {
                        let unit = units.as_ref().map_or(1.0, |units| units.host()[column]);
                        x.matrix().row(row)[column] / unit
                    })
                    .collect();
                let most = divided.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                let scale = if scaling == Scaling::Row { most.max(1e-12) / 448.0 } else { 1.0 };
                assert_eq!(scales[row].to_bits(), scale.to_bits(), "row {row}");
                for (column, value) in divided.iter().enumerate() {
                    let expected = nearest((value / scale).clamp(-448.0, 448.0));
                    assert_eq!(values[row * columns + column], expected, "{row} {column}");
                }
            }
        }
    }
}

#[test]
fn parts_are_written_where_they_lie() {
    let x: Tensor<Act, 2> = random([6, 400], 2);
    let mut whole = Quantized::empty(&Device::Cpu, [6, 400], Scaling::Units).unwrap();
    quantize(whole.view_mut(), x.matrix(), None).unwrap();
    let mut in_parts = Quantized::zeros([6, 400], Scaling::Units);
    for rows in [0..2, 2..6] {
        for columns in [0..100, 100..400] {
            let to = in_parts.view_mut().rows(rows.clone()).columns(columns.clone());
            quantize(to, x.matrix().rows(rows.clone()).columns(columns), None).unwrap();
        }
    }
    assert_eq!(parts(whole.view()), parts(in_parts.view()));
    let part = whole.view().rows(2..5).columns(128..300);
    assert_eq!((part.shape(), part.scales.shape()), ([3, 172], [1, 3]));
    assert_eq!(part.values.row(1)[2], whole.view().values.row(3)[130]);
}

#[test]
fn zeros_and_what_is_not_finite_stay_what_they_are() {
    let x = vec![0.0, 0.0, f32::NAN, 1.0, f32::INFINITY, -1.0];
    let x = Tensor::<Act, 2>::from_host([3, 2], x);
    let mut out = Quantized::empty(&Device::Cpu, [3, 2], Scaling::Row).unwrap();
    quantize(out.view_mut(), x.matrix(), None).unwrap();
    let (values, scales) = parts(out.view());
    let number = |index: usize| e4m3::to_f32(values[index]) * scales[index / 2];
    assert_eq!([number(0), number(1), number(3)], [0.0, 0.0, 1.0]);
    assert!(number(2).is_nan() && number(4).is_nan());
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let x: Tensor<Act, 2> = random([2, 3], 1);
    let mut out = Quantized::empty(&Device::Cpu, [2, 3], Scaling::Row).unwrap();
    let units = units(&Device::Cpu, 4);
    let error = quantize(out.view_mut(), x.matrix(), Some(&units)).unwrap_err();
    assert_eq!(error.to_string(), "quantize: units has shape [4], expected [3]");
}

#[test]
fn cuda_agrees_exactly_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for [rows, columns] in [[1, 1], [3, 127], [5, 128], [7, 129], [64, 3072], [33, 1000]] {
        for scaling in [Scaling::Row, Scaling::Units] {
            for has_units in [false, true] {
                let what = format!("{rows} x {columns} {scaling:?} {has_units}");
                gpu.agrees(&what, gpu::EXACT, |device| {
                    let x = gpu::act(device, [rows, columns], 1);
                    let units = has_units.then(|| units(device, columns));
                    let mut out = Quantized::empty(device, [rows, columns], scaling).unwrap();
                    quantize(out.view_mut(), x.matrix(), units.as_ref()).unwrap();
                    let (values, scales) = parts(out.to_device(&Device::Cpu).unwrap().view());
                    values.iter().map(|&byte| f32::from(byte)).chain(scales).collect()
                });
            }
        }
    }
}
