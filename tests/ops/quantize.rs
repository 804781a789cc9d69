//! `quantize` against a search through all numbers of e4m3.

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

/// The byte whose number is nearest, found by trying all; of two as near the one with an even end.
fn nearest(x: f32) -> u8 {
    let finite = (0..=u8::MAX).filter(|byte| byte & 0x7f != 0x7f);
    let distance = |byte: &u8| (f64::from(e4m3::to_f32(*byte)) - f64::from(x)).abs();
    let sign = u8::from(x.is_sign_negative()) << 7;
    finite
        .filter(|byte| byte & 0x80 == sign)
        .min_by(|a, b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1))))
        .unwrap()
}

/// Values, then scales.
fn parts(quantized: QuantizedRef<'_>) -> (Vec<u8>, Vec<f32>) {
    let rows = |count| 0..count;
    let [height, _] = quantized.shape();
    let values = rows(height).flat_map(|row| quantized.values.row(row).to_vec()).collect();
    let [blocks, _] = quantized.scales.shape();
    let scales = rows(blocks).flat_map(|row| quantized.scales.row(row).to_vec()).collect();
    (values, scales)
}

#[test]
fn against_a_search() {
    for ([rows, columns], scaling) in [
        ([1, 1], Scaling::Row),
        ([3, 200], Scaling::Row),
        ([1, 128], Scaling::Block),
        ([5, 300], Scaling::Block),
    ] {
        let x: Tensor<Act, 2> = random([rows, columns], 1);
        let mut out = Quantized::empty(&Device::Cpu, [rows, columns], scaling).unwrap();
        quantize(out.view_mut(), x.matrix()).unwrap();
        let (values, scales) = parts(out.view());
        let width = if scaling == Scaling::Row { columns } else { 128 };
        for row in 0..rows {
            for (block, x) in x.matrix().row(row).chunks(width).enumerate() {
                let most = x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let scale = scales[block * rows + row];
                assert_eq!(scale.to_bits(), (most / 448.0).to_bits());
                for (column, x) in x.iter().enumerate() {
                    let got = values[row * columns + block * width + column];
                    assert_eq!(got, nearest(x / scale), "row {row}, {x} of {scale}");
                }
            }
        }
    }
}

#[test]
fn views_have_their_own_scales() {
    let x: Tensor<Act, 2> = random([6, 400], 1);
    let mut whole = Quantized::empty(&Device::Cpu, [6, 400], Scaling::Block).unwrap();
    quantize(whole.view_mut(), x.matrix()).unwrap();
    let mut in_parts = Quantized::empty(&Device::Cpu, [6, 400], Scaling::Block).unwrap();
    for rows in [0..2, 2..6] {
        for columns in [0..256, 256..400] {
            let to = in_parts.view_mut().rows(rows.clone()).columns(columns.clone());
            quantize(to, x.matrix().rows(rows.clone()).columns(columns)).unwrap();
        }
    }
    assert_eq!(parts(whole.view()), parts(in_parts.view()));
    let part = whole.view().rows(2..5).columns(128..300);
    assert_eq!((part.shape(), part.scales.shape()), ([3, 172], [2, 3]));
    assert_eq!(part.scales.row(1)[2].to_bits(), whole.view().scales.row(2)[4].to_bits());
}

#[test]
fn zeros_and_what_is_not_finite_stay_what_they_are() {
    let x = vec![0.0, 0.0, f32::NAN, 1.0, f32::INFINITY, -1.0];
    let x = Tensor::<Act, 2>::from_host([3, 2], x);
    let mut out = Quantized::empty(&Device::Cpu, [3, 2], Scaling::Row).unwrap();
    quantize(out.view_mut(), x.matrix()).unwrap();
    let (values, scales) = parts(out.view());
    let number = |index: usize| e4m3::to_f32(values[index]) * scales[index / 2];
    assert_eq!([number(0), number(1), number(3)], [0.0, 0.0, 1.0]);
    assert!(number(2).is_nan() && number(4).is_nan());
}

#[test]
fn cuda_agrees_exactly_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    for [rows, columns] in [[1, 1], [3, 127], [5, 128], [7, 129], [64, 3072], [33, 1000]] {
        for scaling in [Scaling::Row, Scaling::Block] {
            let what = format!("{rows} x {columns} {scaling:?}");
            gpu.agrees(&what, gpu::EXACT, |device| {
                let x = gpu::act(device, [rows, columns], 1);
                let mut out = Quantized::zeros([rows, columns], scaling).to_device(device).unwrap();
                quantize(out.view_mut(), x.matrix()).unwrap();
                let (values, scales) = parts(out.to_device(&Device::Cpu).unwrap().view());
                values.iter().map(|&byte| f32::from(byte)).chain(scales).collect()
            });
        }
    }
}
