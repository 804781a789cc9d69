//! Whole runs on a GPU: the CPU's picture, the same bits again, and nothing allocated on the way.

use std::ops::ControlFlow;

use flux_rt::Error;
use flux_rt::cache::Preset;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::elastic::Mode;
use flux_rt::model::clip;
use flux_rt::model::source::ModelSource;
use flux_rt::model::t5;
use flux_rt::model::vae;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::offload::Residency;
use flux_rt::model::weights::tensor_source::Placement;
use flux_rt::pipeline::DType;
use flux_rt::pipeline::DeviceChoice;
use flux_rt::pipeline::Engine;
use flux_rt::pipeline::Event;
use flux_rt::pipeline::Generated;
use flux_rt::pipeline::Request;

use crate::common::gpu;
use crate::common::gpu::Gpu;
use crate::demo::previews;
use crate::golden;

/// A stage on the GPU against the CPU with the same bf16 weights: some hundred roundings to bf16
/// one after the other.
const STAGE: f64 = 1e-2;
/// Latents after all steps.
pub(crate) const LATENTS: f64 = 2e-2;
/// Of the picture, in decibels.
pub(crate) const PSNR: f64 = 35.0;

/// What the host may call between the first and the last step: it launches the recorded step and
/// looks whether one is done.
const BETWEEN_STEPS: [&str; 6] = [
    "cuCtxSetCurrent",
    "cuEventCreate",
    "cuEventDestroy",
    "cuEventQuery",
    "cuEventRecord",
    "cuGraphLaunch",
];

pub(crate) fn demo() -> String {
    golden::data::path("models/demo").to_string_lossy().into_owned()
}

pub(crate) fn engine(device: DeviceChoice, mode: Mode) -> Engine {
    Engine::builder().model(demo()).device(device).dtype(DType::Bf16).mode(mode).build().unwrap()
}

pub(crate) fn request(prompt: &str, seed: u64) -> Request {
    Request { prompt: Some(prompt.to_owned()), seed, ..Request::default() }
}

/// Relative L2 of finite numbers.
pub(crate) fn distance(what: &str, actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "{what}");
    assert!(actual.iter().chain(expected).all(|value| value.is_finite()), "{what} is finite");
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum();
    let pairs = actual.iter().zip(expected);
    let error: f64 = squares(&mut pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let norm: f64 = squares(&mut expected.iter().map(|value| f64::from(*value)));
    (error / norm).sqrt()
}

pub(crate) fn psnr(actual: &Generated, expected: &Generated) -> f64 {
    let pairs = actual.image.data.iter().zip(&expected.image.data);
    let error: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * expected.image.data.len() as f64 / error).log10()
}

#[test]
fn cuda_draws_the_picture_of_the_cpu() {
    let Some(_gpu) = gpu::gpu() else { return };
    let mut cpu = engine(DeviceChoice::Cpu, Mode::Xl);
    for mode in [Mode::Xl, Mode::Original] {
        let mut cuda = engine(DeviceChoice::Cuda(0), mode.clone());
        for (prompt, size) in [("a red apple", [128, 128]), ("a blue heart, flat style", [160, 96])]
        {
            let [width, height] = size.map(Some);
            let request = Request { width, height, ..request(prompt, 42) };
            let expected = cpu.generate(&request).unwrap();
            let actual = cuda.generate(&request).unwrap();
            let error = distance(prompt, actual.latents.host(), expected.latents.host());
            let psnr = psnr(&actual, &expected);
            println!("{mode} {prompt}: latents {error:.2e}, PSNR {psnr:.1} dB");
            assert!(error <= LATENTS, "{mode} {prompt}: latents {error}");
            assert!(psnr >= PSNR, "{mode} {prompt}: {psnr} dB");
        }
    }
}

#[test]
fn cuda_modes_xl_and_original_round_differently() {
    let Some(_gpu) = gpu::gpu() else { return };
    let request = request("a red apple", 1);
    let [xl, original] = [Mode::Xl, Mode::Original]
        .map(|mode| engine(DeviceChoice::Cuda(0), mode).generate(&request).unwrap());
    assert_ne!(xl.latents.host(), original.latents.host());
    assert!(distance("original", original.latents.host(), xl.latents.host()) <= LATENTS);
}

#[test]
fn cuda_repeats_bits_and_allocates_nothing_after_the_first_image() {
    let Some(_gpu) = gpu::gpu() else { return };
    let mut engine = engine(DeviceChoice::Cuda(0), Mode::Xl);
    let [apple, car] = [request("a red apple", 7), request("a blue car", 8)];
    let first = engine.generate(&apple).unwrap();
    let before = engine.gpu_memory().unwrap();
    // The recorded step now serves another prompt and seed, and then the first again.
    let other = engine.generate(&car).unwrap();
    let again = engine.generate(&apple).unwrap();
    let after = engine.gpu_memory().unwrap();
    assert_eq!(first.image, again.image);
    assert_eq!(first.latents.host(), again.latents.host());
    assert_ne!(first.image, other.image);
    assert_eq!(before.allocations, after.allocations);
    let fresh = self::engine(DeviceChoice::Cuda(0), Mode::Xl).generate(&car).unwrap();
    assert_eq!(fresh.latents.host(), other.latents.host());
    // Without the graph, each kernel by itself: the same work.
    let profile = engine.profile(&apple).unwrap().unwrap();
    assert!(profile.kernels.iter().any(|kernel| kernel.name.starts_with("gemm_qkv")));
}

#[test]
fn cuda_between_steps_only_graphs_are_launched_and_events_looked_at() {
    let Some(_gpu) = gpu::gpu() else { return };
    let plain = || engine(DeviceChoice::Cuda(0), Mode::Xl);
    let cases = [
        ("every step computed", plain(), request("a red apple", 7)),
        ("another size", plain(), Request { width: Some(160), ..request("a blue car", 8) }),
        (
            "a cache",
            plain(),
            Request { cache: Preset::Aggressive.options(), ..request("a cat", 3) },
        ),
    ];
    for (what, mut engine, request) in cases {
        let Device::Cuda(cuda) = engine.device().clone() else { unreachable!("it is a GPU's") };
        // The first picture records what the second one launches.
        engine.generate(&request).unwrap();
        assert!(cuda.driver_calls().is_empty(), "{what}: counted while no one asked");
        let mut counts = Vec::new();
        cuda.count_driver_calls(true);
        let mut observer = |event: Event<'_>| {
            if let Event::Step { .. } = event {
                counts.push(cuda.driver_calls());
            }
            ControlFlow::Continue(())
        };
        engine.generate_with(&request, &mut observer).unwrap();
        cuda.count_driver_calls(false);
        assert!(counts.len() > 2, "{what}: steps to look between");
        for (step, pair) in counts.windows(2).enumerate() {
            for (&call, &after) in &pair[1] {
                let times = after - pair[0].get(call).unwrap_or(&0);
                let most = match call {
                    "cuGraphLaunch" => 1,
                    call if BETWEEN_STEPS.contains(&call) => u64::MAX,
                    _ => 0,
                };
                let steps = [step + 1, step + 2];
                assert!(
                    times <= most,
                    "{what}: {call} called {times} times between steps {steps:?}"
                );
            }
        }
        let launches = cuda.driver_calls().get("cuGraphLaunch").copied().unwrap_or(0);
        let launches = usize::try_from(launches).unwrap();
        let steps = counts.len();
        assert!((1..=steps).contains(&launches), "{what}: {launches} launches for {steps} steps");
    }
}

#[test]
fn cuda_previews_do_not_change_the_picture() {
    let Some(_gpu) = gpu::gpu() else { return };
    let mut engine = engine(DeviceChoice::Cuda(0), Mode::Xl);
    let cached = Request { cache: Preset::Aggressive.options(), ..request("a red apple", 7) };
    for request in [request("a red apple", 7), cached] {
        let (_, plain) = previews(&mut engine, &request);
        for every in [1, 5] {
            let request = Request { preview_every: Some(every), ..request.clone() };
            let (previews, made) = previews(&mut engine, &request);
            assert_eq!(made.latents.host(), plain.latents.host());
            assert_eq!(made.image, plain.image);
            assert_eq!(previews.len(), (made.settings.steps - 1) / every);
            let (done, last) = previews.last().unwrap();
            let near = last.psnr(&made.image);
            assert!(near > 20.0, "{near} after {done} steps");
        }
    }
}

#[test]
fn cuda_goes_on_after_a_stop_and_a_change_of_size() {
    let Some(_gpu) = gpu::gpu() else { return };
    let mut engine = engine(DeviceChoice::Cuda(0), Mode::Xl);
    let request = request("a red apple", 7);
    let whole = engine.generate(&request).unwrap();
    let mut seen = Vec::new();
    let stopped = engine.generate_with(&request, &mut |event| match event {
        Event::Step { done, .. } => {
            seen.push(done);
            if done == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    for (width, steps) in [(64, 4), (160, 4), (96, 3)] {
        let (width, steps) = (Some(width), Some(steps));
        engine.generate(&Request { width, steps, ..request.clone() }).unwrap();
    }
    assert_eq!(engine.generate(&request).unwrap().image, whole.image);
}

#[test]
fn cuda_takes_given_latents_and_noise_of_cpu_generators() {
    let Some(_gpu) = gpu::gpu() else { return };
    let mut cuda = engine(DeviceChoice::Cuda(0), Mode::Xl);
    let mut cpu = engine(DeviceChoice::Cpu, Mode::Xl);
    for rng in [flux_rt::pipeline::Rng::TorchCpu, flux_rt::pipeline::Rng::TorchCpuLegacy] {
        let request = Request { rng, ..request("a green leaf", 3) };
        let [actual, expected] =
            [&mut cuda, &mut cpu].map(|engine| engine.generate(&request).unwrap());
        assert!(psnr(&actual, &expected) >= PSNR, "{rng}");
    }
    let latents: Vec<f32> =
        (0..64 * 64).map(|index| ((index * 37 % 101) as f32 - 50.0) / 29.0).collect();
    let latents = Some(Tensor::from_host([64, 64], latents));
    let request = Request { latents, ..request("a green leaf", 3) };
    let [actual, expected] = [&mut cuda, &mut cpu].map(|engine| engine.generate(&request).unwrap());
    assert!(psnr(&actual, &expected) >= PSNR, "given latents");
}

#[test]
fn cuda_decodes_in_tiles_as_the_cpu_does() {
    let Some(_gpu) = gpu::gpu() else { return };
    // The VAE's own size is 128: tiles of 128 pixels, 96 apart.
    let [width, height] = [Some(320), Some(208)];
    let [whole, tiled] = [false, true].map(|vae_tiling| Request {
        width,
        height,
        steps: Some(4),
        vae_tiling,
        ..request("a red apple", 4)
    });
    let mut cuda = engine(DeviceChoice::Cuda(0), Mode::Xl);
    let mut cpu = engine(DeviceChoice::Cpu, Mode::Xl);
    let [actual, expected] = [&mut cuda, &mut cpu].map(|engine| engine.generate(&tiled).unwrap());
    assert!(psnr(&actual, &expected) >= PSNR, "{} dB", psnr(&actual, &expected));
    assert_ne!(actual.image, cuda.generate(&whole).unwrap().image, "tiles show");
}

#[test]
fn cuda_stages_agree_with_the_cpu() {
    let Some(gpu) = gpu::gpu() else { return };
    let files = ModelSource::new(demo()).resolve().unwrap();
    let device = Device::clone(&gpu);
    let residency = Residency::default();
    let placement = Placement { device, dtype: WeightDtype::Bf16, residency };
    let ids: Vec<u32> = (0..64).map(|index| index * 7 % 900).collect();
    let stage = |what: &str, run: &dyn Fn(&Placement) -> Vec<f32>| {
        let expected = run(&WeightDtype::Bf16.into());
        let error = distance(what, &run(&placement), &expected);
        println!("{what}: {error:.2e}");
        assert!(error <= STAGE, "{what}: {error}");
    };
    stage("clip", &|placement| {
        let weights = files.load_clip(placement.clone()).unwrap();
        let out = clip::encode(&placement.device, &weights, &ids).unwrap();
        out.to_host().unwrap().host().to_vec()
    });
    stage("t5", &|placement| {
        let weights = files.load_t5(placement.clone()).unwrap();
        let out = t5::encode(&placement.device, &weights, &ids).unwrap();
        out.to_host().unwrap().host().to_vec()
    });
    let noise = crate::common::random(16 * 16 * 16, 5);
    for name in ["decode", "encode"] {
        stage(name, &|placement| {
            let weights = files.load_vae(placement.clone()).unwrap();
            let out = if name == "decode" {
                let z = Tensor::from_host([16, 16, 16], noise.clone());
                vae::decode(&weights, &z.to_device(&placement.device).unwrap()).unwrap()
            } else {
                let image = Tensor::from_host([32, 32, 3], noise[..32 * 32 * 3].to_vec());
                vae::encode(&weights, &image.to_device(&placement.device).unwrap()).unwrap()
            };
            out.to_host().unwrap().host().to_vec()
        });
    }
}

/// What the demo's heads of 64 have e4m3 kernels for, on both devices alike, at full width in some blocks.
const FP8_LAYERS: &str = r#"{
    "version": 1,
    "name": "layers",
    "double": [
        { "blocks": "0-2", "qkv": "fp8", "out": "fp8", "mlp_up": "fp8", "mlp_down": "fp8" },
        { "blocks": "3-5", "qkv": "fp8", "out": "fp8", "mlp_up": "fp8", "mlp_down": "fp8", "heads": 2, "mlp": 512 }
    ],
    "single": [
        { "blocks": "0-3", "linear1": "fp8", "linear2": "fp8" },
        { "blocks": "4-7", "linear1": "fp8", "linear2": "fp8", "heads": 2, "mlp": 640 }
    ]
}"#;

/// Without e4m3.
const NARROW: &str = r#"{
    "version": 1,
    "name": "narrow",
    "double": [{ "blocks": "0-2", "heads": 2 }, { "blocks": "3-5", "heads": 2, "mlp": 384 }],
    "single": [{ "blocks": "0-3", "heads": 2, "mlp": 512 }, { "blocks": "4-7", "heads": 1 }]
}"#;

/// Where sums in another order turn a number, it is a sixteenth off: pictures differ by more than in
/// bf16, and by less than fp8 moves them from XL's, some 36 dB.
#[test]
fn cuda_fp8_layers_draw_what_the_cpu_draws() {
    let Some(_gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    draws_what_the_cpu_draws(FP8_LAYERS, 36.0);
}

#[test]
fn cuda_narrow_blocks_draw_what_the_cpu_draws() {
    let Some(_gpu) = gpu::gpu() else { return };
    draws_what_the_cpu_draws(NARROW, PSNR);
}

#[expect(clippy::disallowed_methods, reason = "a file of this test alone")]
fn draws_what_the_cpu_draws(plan: &str, least: f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    std::fs::write(&path, plan).unwrap();
    let mode = Mode::Plan(path);
    let [mut cuda, mut cpu] =
        [DeviceChoice::Cuda(0), DeviceChoice::Cpu].map(|device| engine(device, mode.clone()));
    assert!(cuda.lowered().is_empty(), "{:?}", cuda.lowered());
    for (prompt, seed) in [("a red apple", 42), ("a castle", 3)] {
        let request = request(prompt, seed);
        let [actual, expected] =
            [&mut cuda, &mut cpu].map(|engine| engine.generate(&request).unwrap());
        let decibels = psnr(&actual, &expected);
        assert!(decibels >= least, "{prompt}: {decibels} dB");
    }
}

/// Every mode draws on the card, and names what it has no kernel for.
#[test]
fn cuda_draws_in_every_mode() {
    let Some(_gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    let request = request("a red apple", 42);
    let exact = engine(DeviceChoice::Cuda(0), Mode::Xl).generate(&request).unwrap();
    for mode in [Mode::L, Mode::M, Mode::S] {
        let mut engine = engine(DeviceChoice::Cuda(0), mode.clone());
        let drawn = engine.generate(&request).unwrap();
        let again = engine.generate(&request).unwrap();
        assert_eq!(drawn.image, again.image, "{mode}");
        let decibels = psnr(&drawn, &exact);
        println!("{mode}: {decibels:.1} dB, in bf16 {:?}", engine.lowered());
        assert!(decibels >= 25.0, "{mode}: {decibels} dB");
    }
}
