//! `euler_step` on numbers whose roundings can be followed by hand.

use flux_rt::Error;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::euler_step::LatentRounding;
use flux_rt::ops::euler_step::euler_step;

use crate::common::gpu;
use crate::golden;

fn step_once(latent: f32, velocity: f32, sigmas: [f32; 2], rounding: LatentRounding) -> f32 {
    let mut latents = Tensor::from_host([1, 1], vec![latent]);
    let velocity = Tensor::from_host([1, 1], vec![velocity]);
    let sigmas = Tensor::from_host([2], sigmas.to_vec());
    let mut step = Tensor::zeros([1]);
    euler_step(&mut latents, &velocity, &sigmas, &mut step, rounding).unwrap();
    assert_eq!(step.host(), [1]);
    latents.host()[0]
}

#[test]
fn f32_latents_are_not_rounded() {
    assert_eq!(step_once(1.0, 3.0, [1.0, 0.75], LatentRounding::F32), 0.25);
    // The product is rounded before the sum: no fused multiply-add.
    let (sigma, velocity) = (0.988_409_f32, 1.234_f32);
    let expected = 0.5 + (sigma - 1.0) * velocity;
    assert_eq!(step_once(0.5, velocity, [1.0, sigma], LatentRounding::F32), expected);
}

#[test]
fn bf16_latents_round_three_times() {
    // dt = -0.1 becomes -0.10009765625; times 1.5 is -0.150146484375, which bf16 holds as
    // -0.150390625; the sum 0.849609375 is half way between two bf16, and the even is 0.8515625.
    let rounded = step_once(1.0, 1.5, [0.3, 0.2], LatentRounding::DiffusersBf16);
    assert_eq!(rounded, 0.851_562_5);
}

#[test]
fn four_steps_follow_diffusers() {
    let goldens = golden::tensors("schedule.safetensors");
    let tensor = |name: &str| golden::narrow(&goldens[name]);
    let sigmas = Tensor::from_host([29], tensor("dev.tokens4096.steps28.sigmas"));
    for (kind, rounding) in [("f32", LatentRounding::F32), ("bf16", LatentRounding::DiffusersBf16)]
    {
        let mut latents = Tensor::from_host([4, 64], tensor(&format!("euler.{kind}.0")));
        let mut step = Tensor::zeros([1]);
        for i in 0..4 {
            let velocity = tensor(&format!("euler.{kind}.velocity.{i}"));
            let velocity = Tensor::from_host([4, 64], velocity);
            euler_step(&mut latents, &velocity, &sigmas, &mut step, rounding).unwrap();
            let expected = tensor(&format!("euler.{kind}.{}", i + 1));
            assert_eq!(latents.host(), expected, "{kind} step {i}");
        }
    }
}

#[test]
fn the_counter_picks_the_step() {
    let sigmas = Tensor::from_host([4], vec![1.0, 0.5, 0.25, 0.0]);
    let mut latents = Tensor::from_host([2, 1], vec![0.0, 8.0]);
    let velocity = Tensor::from_host([2, 1], vec![1.0, -4.0]);
    let mut step = Tensor::from_host([1], vec![1]);
    let rounding = LatentRounding::F32;
    euler_step(&mut latents, &velocity, &sigmas, &mut step, rounding).unwrap();
    assert_eq!((latents.host(), step.host()), ([-0.25, 9.0].as_slice(), [2].as_slice()));
    euler_step(&mut latents, &velocity, &sigmas, &mut step, rounding).unwrap();
    assert_eq!((latents.host(), step.host()), ([-0.5, 10.0].as_slice(), [3].as_slice()));
    let past = euler_step(&mut latents, &velocity, &sigmas, &mut step, rounding);
    assert!(matches!(past, Err(Error::Shape { tensor: "sigmas", .. })), "{past:?}");
    assert_eq!(latents.host(), [-0.5, 10.0]);
}

#[test]
fn wrong_shapes_are_refused() {
    let mut latents = Tensor::zeros([2, 4]);
    let sigmas = Tensor::zeros([2]);
    let rounding = LatentRounding::F32;
    let mut step = Tensor::zeros([1]);
    let result = euler_step(&mut latents, &Tensor::zeros([2, 3]), &sigmas, &mut step, rounding);
    assert!(matches!(result, Err(Error::Shape { tensor: "velocity", .. })));
    let mut steps = Tensor::zeros([2]);
    let result = euler_step(&mut latents, &Tensor::zeros([2, 4]), &sigmas, &mut steps, rounding);
    assert!(matches!(result, Err(Error::Shape { tensor: "step", .. })));
}

#[test]
fn cuda_agrees_exactly_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    let shapes = [[1, 1], [3, 5], [1, 64], [32, 64], [2049, 1], [33, 64], [4096, 64]];
    for (shape, rounding) in shapes
        .into_iter()
        .flat_map(|shape| [LatentRounding::F32, LatentRounding::DiffusersBf16].map(|r| (shape, r)))
    {
        // Every step from the same latents, so that the roundings of one do not enter the next.
        for at in 0..3 {
            gpu.agrees_exactly(&format!("{shape:?}, {rounding:?}, step {at}"), |device| {
                let mut latents = gpu::act(device, shape, 1);
                let velocity = gpu::act(device, shape, 2);
                let sigmas = Tensor::from_host([4], vec![1.0, 0.963_1, 0.517_3, 0.0]);
                let sigmas = gpu::to(device, sigmas);
                let mut step = gpu::to(device, Tensor::from_host([1], vec![at]));
                euler_step(&mut latents, &velocity, &sigmas, &mut step, rounding).unwrap();
                assert_eq!(gpu::host(step), [at + 1]);
                gpu::host(latents)
            });
        }
    }
}

#[test]
fn cuda_changes_nothing_past_the_last_step() {
    let Some(gpu) = gpu::gpu() else { return };
    let mut latents = gpu::act(&gpu, [9, 64], 1);
    let velocity = gpu::act(&gpu, [9, 64], 2);
    let sigmas = gpu::to(&gpu, Tensor::from_host([2], vec![1.0, 0.0]));
    let mut step = gpu::to(&gpu, Tensor::from_host([1], vec![1]));
    euler_step(&mut latents, &velocity, &sigmas, &mut step, LatentRounding::F32).unwrap();
    assert_eq!(gpu::host(step), [1]);
    assert_eq!(gpu::host(latents), gpu::act(&Device::Cpu, [9, 64], 1).host());
}
