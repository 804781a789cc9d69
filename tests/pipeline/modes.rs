//! One engine, several modes: pictures are those of an engine for one mode, and changing costs nothing.

use std::path::Path;
use std::time::Instant;

use flux_rt::device::Device;
use flux_rt::elastic::Mode;
use flux_rt::pipeline::DeviceChoice;
use flux_rt::pipeline::Engine;
use flux_rt::pipeline::EngineBuilder;
use flux_rt::pipeline::Request;
use flux_rt::pipeline::RgbImage;
use tempfile::TempDir;

use crate::common::gpu;
use crate::golden;

/// Half the neurons everywhere, and on the CPU two heads of three in some blocks.
fn narrow() -> (TempDir, Mode) {
    let plan = r#"{ "version": 1, "name": "narrow",
        "double": [{ "blocks": "0-5", "mlp": 384 }, { "blocks": "3", "heads": 2 }],
        "single": [{ "blocks": "0-7", "mlp": 512, "linear2": "fp8" }, { "blocks": "5", "heads": 2 }] }"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("narrow.json");
    flux_rt::files::write_atomic(&path, plan.as_bytes()).unwrap();
    (folder, Mode::Plan(path))
}

fn builder(device: DeviceChoice) -> EngineBuilder {
    let model = golden::data::path("models/demo").to_string_lossy().into_owned();
    Engine::builder().model(model).device(device)
}

fn draw(engine: &mut Engine) -> RgbImage {
    let prompt = Some("a blue car".to_owned());
    engine.generate(&Request { prompt, seed: 7, ..Request::default() }).unwrap().image
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = flux_rt::files::read_text(Path::new("/proc/self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    1024 * kilobytes.unwrap_or_default()
}

fn switches(device: DeviceChoice) {
    let (_folder, narrow) = narrow();
    let modes = [Mode::Xl, Mode::S, narrow];
    let alone: Vec<RgbImage> = modes
        .iter()
        .map(|mode| draw(&mut builder(device).mode(mode.clone()).build().unwrap()))
        .collect();
    assert!(alone[0].psnr(&alone[2]) < 50.0, "the plan leaves nothing out");
    let mut engine = builder(device)
        .mode(modes[0].clone())
        .more_modes(modes[1..].iter().cloned())
        .build()
        .unwrap();
    let mut round = || {
        for (mode, alone) in modes.iter().zip(&alone) {
            let clock = Instant::now();
            engine.use_mode(mode).unwrap();
            let took = clock.elapsed();
            assert!(took.as_millis() < 20, "{mode}: {took:?}");
            assert_eq!(engine.mode(), mode);
            assert!(draw(&mut engine) == *alone, "{mode}: another picture than alone");
        }
    };
    round();
    let before = resident();
    round();
    round();
    let grown = resident().saturating_sub(before);
    // The demo's weights are 50 MB in f32.
    assert!(grown < 16 << 20, "{grown} bytes more after two more rounds");
    let error = engine.use_mode(&Mode::M).unwrap_err().to_string();
    assert!(
        error.contains("a mode that is loaded (XL, S, ") && error.contains("found M"),
        "{error}"
    );
}

#[test]
fn metadata_are_of_the_mode_that_drew() {
    let request = Request { steps: Some(1), ..Request::default() };
    let mut engine =
        builder(DeviceChoice::Cpu).mode(Mode::Xl).more_modes([Mode::S]).build().unwrap();
    let made = engine.generate(&request).unwrap();
    let alone = engine.metadata("demo", None, &made).unwrap();
    engine.use_mode(&Mode::S).unwrap();
    assert_eq!(engine.metadata("demo", None, &made).unwrap(), alone);
    assert_eq!((alone.mode.as_str(), alone.plan), ("XL", None));
    let other = engine.generate(&request).unwrap();
    assert_eq!(engine.metadata("demo", None, &other).unwrap().mode, "S");

    // Latents that the caller brought are no seed's noise, and are not said to be.
    let latents = Some(made.latents);
    let own = engine.generate(&Request { latents, ..request }).unwrap();
    let metadata = engine.metadata("demo", None, &own).unwrap();
    assert_eq!((metadata.rng.as_str(), metadata.rng_grid), ("latents of the caller", None));

    // A mode that another engine drew in.
    let mut xl = builder(DeviceChoice::Cpu).mode(Mode::Xl).build().unwrap();
    let error = xl.metadata("demo", None, &other).unwrap_err().to_string();
    assert!(error.contains("found S"), "{error}");
}

#[test]
fn modes_take_turns() {
    switches(DeviceChoice::Cpu);
}

/// The text encoders round as diffusers does in mode `original`, and as here in the others: a prompt whose states are
/// remembered from one is encoded again in the other.
#[test]
fn cuda_original_takes_no_states_of_another_mode() {
    let Some(gpu) = gpu::gpu() else { return };
    let (Device::Cuda(_), false) = (&*gpu, gpu.small()) else { return };
    let device = DeviceChoice::Cuda(0);
    let [xl, original] = [Mode::Xl, Mode::Original]
        .map(|mode| draw(&mut builder(device).mode(mode).build().unwrap()));
    assert!(xl != original, "the modes round differently");
    let both = builder(device).mode(Mode::Xl).more_modes([Mode::Original]);
    let mut engine = both.build().unwrap();
    for (mode, alone) in [(Mode::Xl, &xl), (Mode::Original, &original), (Mode::Xl, &xl)] {
        engine.use_mode(&mode).unwrap();
        assert!(draw(&mut engine) == *alone, "{mode}: another picture than alone");
    }
}

#[test]
fn cuda_modes_take_turns() {
    let Some(gpu) = gpu::gpu() else { return };
    if let (Device::Cuda(_), false) = (&*gpu, gpu.small()) {
        switches(DeviceChoice::Cuda(0));
    }
}
