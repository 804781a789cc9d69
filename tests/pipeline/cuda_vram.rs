//! A limit of GPU memory: what it leaves out waits, and pictures stay the same.

use flux_rt::Error;
use flux_rt::elastic::Mode;
use flux_rt::pipeline::DType;
use flux_rt::pipeline::DeviceChoice;
use flux_rt::pipeline::Engine;
use flux_rt::pipeline::Request;

use crate::common::gpu;
use crate::common::gpu::Gpu;
use crate::cuda::demo;
use crate::cuda::engine;
use crate::cuda::request;

fn limited(bytes: usize) -> Result<Engine, Error> {
    let builder = Engine::builder().model(demo()).device(DeviceChoice::Cuda(0));
    builder.dtype(DType::Bf16).mode(Mode::Xl).max_vram(Some(bytes)).build()
}

#[test]
fn cuda_pictures_are_the_same_under_a_limit() {
    let Some(_gpu) = gpu::gpu() else { return };
    let Err(Error::OutOfMemory { needed, .. }) = limited(100_000_000) else {
        panic!("expected no room in 0.1 GB");
    };
    let requests = [request("a red apple", 7), request("a blue car", 8)];
    let expected = requests
        .each_ref()
        .map(|request| engine(DeviceChoice::Cuda(0), Mode::Xl).generate(request).unwrap().image);
    let mut engine = limited(needed).unwrap();
    let notes = engine.notes().join("; ");
    assert!(notes.contains("of modulation weights wait in host memory"), "{notes}");
    assert!(engine.t5_dtype().is_none(), "mode XL has no e4m3");
    for (request, expected) in requests.iter().zip(&expected).chain(requests.iter().zip(&expected))
    {
        assert!(engine.generate(request).unwrap().image == *expected, "{:?}", request.prompt);
    }
    let memory = engine.gpu_memory().unwrap();
    println!("{needed} bytes allowed, {memory:?}; {notes}");
    assert!(memory.offloaded_bytes.iter().all(|&bytes| bytes > 0), "{memory:?}");
    // The guarded device of all tests has its own.
    assert!(memory.held_bytes <= needed, "{memory:?} in {needed}");
}

/// FLUX.1's sizes, 1024 x 1024: what is promised is kept while weights are loaded, T5's blocks come and
/// go, and the picture is decoded.
#[test]
fn cuda_flux_dev_fits_into_15_gb() {
    let Some(_gpu) = gpu::gpu().filter(Gpu::has_fp8) else { return };
    const MOST: usize = 15_000_000_000;
    let builder = Engine::builder().model("synthetic:flux-dev").device(DeviceChoice::Cuda(0));
    let mut engine = builder.mode(Mode::S).max_vram(Some(MOST)).build().unwrap();
    assert_eq!(engine.t5_dtype(), Some("e4m3"));
    let mut allocations = Vec::new();
    for seed in 0..3 {
        let request = Request { steps: Some(2), ..request(&format!("picture {seed}"), seed) };
        engine.generate(&request).unwrap();
        let memory = engine.gpu_memory().unwrap();
        println!("{memory:?}");
        assert!(memory.held_bytes <= MOST, "{memory:?}");
        allocations.push(memory.allocations);
    }
    assert_eq!(allocations[1], allocations[2], "the steady state allocates nothing");
}
