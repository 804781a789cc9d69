//! `to_rgb8`: ends, ties, values outside the range, and the bf16 rule.

use half::bf16;

use flux_rt::Error;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::to_rgb8::PixelRounding;
use flux_rt::ops::to_rgb8::to_rgb8;

use crate::common::gpu;
use crate::golden;

fn bytes(values: &[f32], rounding: PixelRounding) -> Vec<u8> {
    let image = Tensor::from_host([1, values.len() / 3, 3], values.to_vec());
    let mut out = Tensor::zeros(image.shape());
    to_rgb8(&mut out, &mut Tensor::zeros([1]), &image, rounding).unwrap();
    out.host().to_vec()
}

/// What `not_finite` becomes from `before`.
fn flag(device: &Device, values: &[f32], before: u32) -> u32 {
    let image = Tensor::from_host([1, values.len() / 3, 3], values.to_vec());
    let mut out = Tensor::empty(device, image.shape()).unwrap();
    let mut flag = gpu::to(device, Tensor::from_host([1], vec![before]));
    to_rgb8(&mut out, &mut flag, &gpu::to(device, image), PixelRounding::F32).unwrap();
    gpu::host(flag)[0]
}

fn what_is_not_finite_is_told(device: &Device) {
    for count in [3, 24, 6147] {
        let sound: Vec<f32> = (0..count).map(|index| (index % 7) as f32 / 3.0 - 1.0).collect();
        assert_eq!([flag(device, &sound, 0), flag(device, &sound, 1)], [0, 1]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for index in [0, count / 2, count - 1] {
                let mut values = sound.clone();
                values[index] = bad;
                assert_eq!(flag(device, &values, 0), 1, "{bad} at {index} of {count}");
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_told_on_the_cpu() {
    what_is_not_finite_is_told(&Device::Cpu);
}

#[test]
fn what_is_not_finite_is_told_on_cuda() {
    let Some(gpu) = gpu::gpu() else { return };
    what_is_not_finite_is_told(&gpu);
}

#[test]
fn range_and_ties() {
    // 0 gives 127.5, a tie: 128 is even. 1/255 - 1 gives 0.5: 0 is even.
    let values = [-1.0, 1.0, 0.0, -7.0, 7.0, f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -0.5];
    assert_eq!(bytes(&values, PixelRounding::F32), [0, 255, 128, 0, 255, 0, 0, 255, 64]);
}

#[test]
fn bf16_rounds_before_scaling() {
    // x = 0.3: f32 0.65 * 255 = 165.75. bf16: 0.30078125, halved 0.150390625, sum 0.650390625 lies
    // between 0.6484375 and 0.65234375, half way, even is 0.6484375 (0x1.4cp-1): 165.35.
    let values = [0.3, 0.3, 0.3];
    assert_eq!(bytes(&values, PixelRounding::F32), [166; 3]);
    assert_eq!(bytes(&values, PixelRounding::DiffusersBf16), [165; 3]);
}

#[test]
fn wrong_shapes_are_refused() {
    let rounding = PixelRounding::F32;
    let flag = &mut Tensor::zeros([1]);
    let planar = to_rgb8(&mut Tensor::zeros([3, 2, 2]), flag, &Tensor::zeros([3, 2, 2]), rounding);
    assert!(matches!(planar, Err(Error::Shape { tensor: "image", .. })));
    let other = to_rgb8(&mut Tensor::zeros([2, 2, 3]), flag, &Tensor::zeros([2, 3, 3]), rounding);
    assert!(matches!(other, Err(Error::Shape { tensor: "out", .. })));
}

#[test]
fn goldens_of_both_decoders() {
    let [height, width] = [32, 24];
    for folder in ["dev", "schnell"] {
        let goldens = golden::tensors(&format!("{folder}/expected.safetensors"));
        let planar = golden::narrow(&goldens["vae.decode.image"]);
        let plane = height * width;
        let channels_last = (0..3 * plane).map(|i| planar[i % 3 * plane + i / 3]).collect();
        let image = Tensor::from_host([height, width, 3], channels_last);
        let mut out = Tensor::zeros(image.shape());
        to_rgb8(&mut out, &mut Tensor::zeros([1]), &image, PixelRounding::F32).unwrap();
        let actual: Vec<f64> = out.host().iter().map(|&byte| f64::from(byte)).collect();
        assert_eq!(actual, goldens["vae.decode.pixels"], "{folder}");
    }
}

#[test]
fn cuda_agrees_exactly_on_every_bf16_number() {
    let Some(gpu) = gpu::gpu() else { return };
    let every = (0..=u16::MAX).map(|bits| bf16::from_bits(bits).to_f32());
    let sizes = [(65_536 + 2, every.chain([0.25, -0.25]).collect::<Vec<f32>>())];
    // Counts that are a multiple of 8, and not; values in [-1.2, 1.2].
    let largest = if gpu.small() { 6144 } else { 786_432 };
    let others = [3, 24, 27, 6144, 6147, largest].map(|count: usize| {
        let values = gpu::act(&Device::Cpu, [count], 1);
        (count, values.host().iter().map(|value| value * 1.2).collect())
    });
    for (count, mut values) in sizes.into_iter().chain(others) {
        gpu::round(&mut values);
        for rounding in [PixelRounding::F32, PixelRounding::DiffusersBf16] {
            let run = |device: &Device| {
                let image = Tensor::from_host([1, count / 3, 3], values.clone());
                let mut out = Tensor::empty(device, image.shape()).unwrap();
                let mut flag = gpu::to(device, Tensor::zeros([1]));
                to_rgb8(&mut out, &mut flag, &gpu::to(device, image), rounding).unwrap();
                gpu::host(out)
            };
            let actual = gpu.run(&format!("{count}, {rounding:?}"), run);
            for ((value, actual), expected) in values.iter().zip(actual).zip(run(&Device::Cpu)) {
                assert_eq!(actual, expected, "{value}, {rounding:?}");
            }
        }
    }
}
