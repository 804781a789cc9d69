//! Whole runs from prompt to pixels against diffusers' `FluxPipeline`.
#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a helper of a test may fail it; the fixture's numbers are small"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../golden/mod.rs"]
mod golden;

mod cache;
mod cuda;
mod cuda_cache;
mod cuda_faults;
mod cuda_vram;
mod demo;
mod modes;

use std::ops::ControlFlow;

use flux_rt::Error;
use flux_rt::device::Tensor;
use flux_rt::model::source::ModelSource;
use flux_rt::pipeline::DType;
use flux_rt::pipeline::DeviceChoice;
use flux_rt::pipeline::Engine;
use flux_rt::pipeline::Event;
use flux_rt::pipeline::Request;
use flux_rt::pipeline::Rng;
use flux_rt::pipeline::Settings;
use serde_json::Value;

use crate::common::Tolerance;
use crate::common::assert_close;

/// A whole run in f32.
const RUN: Tolerance = Tolerance { atol: 5e-4, rtol: 1e-3, l2: 1e-4 };

fn engine(pipeline: &str, dtype: DType) -> Engine {
    let folder = golden::path(pipeline).to_string_lossy().into_owned();
    Engine::builder().model(folder).device(DeviceChoice::Cpu).dtype(dtype).build().unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// The request of a pipeline's golden run.
fn request(pipeline: &str) -> Request {
    let run = golden::json(&format!("{pipeline}/expected.json"))["run"].clone();
    Request {
        prompt: Some(run["prompt"].as_str().unwrap().to_owned()),
        prompt_2: run["prompt_2"].as_str().map(str::to_owned),
        width: Some(number(&run["width"])),
        height: Some(number(&run["height"])),
        steps: Some(number(&run["steps"])),
        guidance: (pipeline == "dev").then(|| run["guidance"].as_f64().unwrap() as f32),
        seed: run["seed"].as_u64().unwrap(),
        rng: Rng::TorchCpu,
        max_sequence_length: Some(number(&run["max_sequence_length"])),
        ..Request::default()
    }
}

#[test]
fn latents_and_pixels_are_those_of_diffusers() {
    for pipeline in ["dev", "schnell"] {
        let goldens = golden::tensors(&format!("{pipeline}/expected.safetensors"));
        let mut engine = engine(pipeline, DType::F32);
        let request = request(pipeline);
        let generated = engine.generate(&request).unwrap();
        let last = format!("pipeline.latents.{}", request.steps.unwrap() - 1);
        let expected = golden::narrow(&goldens[&last]);
        assert_close(&format!("{pipeline} {last}"), generated.latents.host(), &expected, RUN);
        let image = &generated.image;
        assert_eq!([Some(image.width), Some(image.height)], [request.width, request.height]);
        let expected = &goldens["pipeline.pixels"];
        assert_eq!(image.data.len(), expected.len());
        let mut off = 0;
        for (&actual, &expected) in image.data.iter().zip(expected) {
            let distance = (f64::from(actual) - expected).abs();
            assert!(distance <= 1.0, "{pipeline}: pixel {actual}, expected {expected}");
            off += usize::from(distance > 0.0);
        }
        assert!(200 * off <= expected.len(), "{pipeline}: {off} of {} values", expected.len());
    }
}

#[test]
fn given_latents_take_the_place_of_noise() {
    for pipeline in ["dev", "schnell"] {
        let goldens = golden::tensors(&format!("{pipeline}/expected.safetensors"));
        let mut engine = engine(pipeline, DType::F32);
        let mut request = request(pipeline);
        let drawn = engine.generate(&request).unwrap();
        let packed = golden::narrow(&goldens["pipeline.packed"]);
        request.latents = Some(Tensor::from_host([packed.len() / 64, 64], packed));
        request.seed += 1;
        let mut steps = Vec::new();
        let given = engine
            .generate_with(&request, &mut |event| {
                if let Event::Step { done, .. } = event {
                    steps.push(done);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(given.image, drawn.image);
        assert_eq!(Some(steps.len()), request.steps);
    }
}

#[test]
fn the_same_request_gives_the_same_bits_and_encodes_once() {
    let mut engine = engine("schnell", DType::F32);
    let request = request("schnell");
    let first = engine.generate(&request).unwrap();
    let second = engine.generate(&request).unwrap();
    assert_eq!(first.image, second.image);
    assert_eq!(first.latents.host(), second.latents.host());
    assert!(second.timings.encode_ms < first.timings.encode_ms);
    let other = engine.generate(&Request { seed: 8, ..request }).unwrap();
    assert_ne!(first.image, other.image);
}

#[test]
fn bf16_is_near_f32_and_not_the_same() {
    for pipeline in ["dev", "schnell"] {
        let request = request(pipeline);
        let f32 = engine(pipeline, DType::F32).generate(&request).unwrap();
        let bf16 = engine(pipeline, DType::Bf16).generate(&request).unwrap();
        assert_ne!(f32.latents.host(), bf16.latents.host());
        let near = Tolerance { atol: 0.5, rtol: 0.5, l2: 0.1 };
        assert_close(pipeline, bf16.latents.host(), f32.latents.host(), near);
        let rounded =
            |value: &f32| half::bf16::from_f32(*value).to_f32().to_bits() == value.to_bits();
        assert!(bf16.latents.host().iter().all(rounded), "{pipeline}: latents are bf16 numbers");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mut engine = engine("dev", DType::F32);
    let request = request("dev");
    let mut draw = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| engine.generate(&request)).unwrap().latents.host().to_vec()
    };
    let one = draw(1);
    assert!([2, 3, 8].into_iter().all(|threads| draw(threads) == one));
}

#[test]
fn defaults_are_those_of_the_model() {
    for (pipeline, steps, guidance) in [("dev", 28, Some(3.5)), ("schnell", 4, None)] {
        let engine = engine(pipeline, DType::F32);
        let settings = Settings::new(&Request::default(), engine.defaults()).unwrap();
        assert_eq!((settings.width, settings.height), (1024, 1024), "{pipeline}");
        assert_eq!((settings.steps, settings.guidance), (steps, guidance), "{pipeline}");
    }
}

#[test]
fn a_picture_that_is_not_numbers_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let vae = golden::path("schnell/vae");
    for name in flux_rt::files::list(&vae).unwrap() {
        let mut content = flux_rt::files::map(&vae.join(&name)).unwrap().to_vec();
        if name.ends_with(".safetensors") {
            let end =
                8 + usize::try_from(u64::from_le_bytes(content[..8].try_into().unwrap())).unwrap();
            let header: Value = serde_json::from_slice(&content[8..end]).unwrap();
            let bias = &header["decoder.conv_out.bias"];
            assert_eq!(bias["dtype"], "BF16");
            let first = end + number(&bias["data_offsets"][0]);
            content[first..][..2].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
        }
        flux_rt::files::write_atomic(&temp.path().join(name), &content).unwrap();
    }
    let mut source = ModelSource::new(golden::path("schnell").to_string_lossy());
    source.vae = Some(temp.path().into());
    let mut engine = Engine::builder().source(source).build().unwrap();
    let error = engine.generate(&request("schnell")).unwrap_err();
    assert!(matches!(error, Error::Numeric { what: "the decoded picture", .. }), "{error:?}");
}

#[test]
fn guidance_acts_where_it_is_embedded_and_is_refused_elsewhere() {
    let mut dev = engine("dev", DType::F32);
    let request = request("dev");
    let other = Request { guidance: Some(1.5), ..request.clone() };
    assert_ne!(dev.generate(&request).unwrap().image, dev.generate(&other).unwrap().image);
    let mut schnell = engine("schnell", DType::F32);
    let error = schnell.generate(&Request { guidance: Some(3.5), ..Request::default() });
    assert!(matches!(error, Err(Error::Request { field: "guidance", .. })), "{error:?}");
}

#[test]
fn an_observer_stops_the_run() {
    let mut engine = engine("schnell", DType::F32);
    let mut seen = 0;
    let stopped = engine.generate_with(&request("schnell"), &mut |event| match event {
        Event::Step { done, .. } => {
            seen = done;
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    assert_eq!(seen, 1);
}

#[test]
fn latents_that_are_not_numbers_are_an_error() {
    let mut engine = engine("schnell", DType::F32);
    let mut request = request("schnell");
    let tokens = request.width.unwrap() * request.height.unwrap() / 256;
    let mut values = vec![0.5; tokens * 64];
    values[3] = f32::NAN;
    request.latents = Some(Tensor::from_host([tokens, 64], values));
    let error = engine.generate(&request).unwrap_err();
    assert!(matches!(error, Error::Numeric { what: "latents", step: 1 }), "{error:?}");
    assert_eq!(error.exit_code(), 7);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let mut engine = engine("schnell", DType::F32);
    for (width, height, field) in [(100, 64, "width"), (64, 0, "height"), (64, 9000, "height")] {
        let request = Request { width: Some(width), height: Some(height), ..Request::default() };
        let error = engine.generate(&request).unwrap_err();
        let Error::Request { field: found, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*found, field, "{error}");
    }
}
