//! One engine, many caches: nothing of a picture is left for the next.

use std::ops::ControlFlow;

use flux_rt::Error;
use flux_rt::cache::CacheOptions;
use flux_rt::cache::Counting;
use flux_rt::cache::Layout;
use flux_rt::cache::ListLog;
use flux_rt::cache::ListOptions;
use flux_rt::cache::Mask;
use flux_rt::cache::MaskPolicy;
use flux_rt::cache::Preset;
use flux_rt::elastic::Mode;
use flux_rt::pipeline::DeviceChoice;
use flux_rt::pipeline::Event;
use flux_rt::pipeline::Generated;
use flux_rt::pipeline::Request;

use crate::common::gpu;
use crate::cuda::engine;
use crate::cuda::request;

fn with(change: impl Fn(&mut ListOptions)) -> CacheOptions {
    let mut options = Preset::Aggressive.options().unwrap();
    for list in [&mut options.double, &mut options.single] {
        list.warmup = 3;
        change(list);
    }
    options
}

/// Caches of which several share a session, and a recorded step with it.
fn caches() -> Vec<Option<CacheOptions>> {
    let streak = CacheOptions { counting: Counting::Streak, ..with(|_| {}) };
    let static_mask = |list: &mut ListOptions| {
        list.mask = Some(Mask::try_from("1110010".to_owned()).unwrap());
        list.mask_policy = MaskPolicy::Static;
        list.taylor_order = 1;
    };
    let split = CacheOptions { layout: Layout::Split, ..with(|list| list.bn_blocks = 1) };
    vec![
        None,
        Some(with(|_| {})),
        Some(with(|list| list.replay = Some(vec![4, 5, 8]))),
        Some(streak),
        Some(with(|list| list.max_cached = Some(2))),
        Some(with(|list| list.max_accumulated = Some(0.2))),
        Some(with(static_mask)),
        Some(with(|list| list.taylor_order = 2)),
        Some(split),
    ]
}

fn small(cache: Option<CacheOptions>) -> Request {
    let [width, height] = [Some(64), Some(48)];
    Request { width, height, steps: Some(10), cache, ..request("a red apple", 5) }
}

type Outcome = (Vec<f32>, Option<Vec<ListLog>>);

fn outcome(made: Generated) -> Outcome {
    (made.latents.host().to_vec(), made.cache.map(|cache| cache.lists))
}

/// Each cache by an engine of its own, then all by one, twice and in the other order, some pictures
/// being stopped on the way.
fn nothing_is_left(device: DeviceChoice) {
    let alone: Vec<Outcome> = caches()
        .into_iter()
        .map(|cache| outcome(engine(device, Mode::Xl).generate(&small(cache)).unwrap()))
        .collect();
    let mut shared = engine(device, Mode::Xl);
    let order = (0..alone.len()).chain((0..alone.len()).rev());
    for (round, index) in order.enumerate() {
        let request = small(caches().swap_remove(index));
        if round % 2 == 1 {
            let stopped = shared.generate_with(&request, &mut |event| match event {
                Event::Step { done: 7, .. } => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
            assert!(matches!(stopped, Err(Error::Cancelled)));
        }
        let together = outcome(shared.generate(&request).unwrap());
        assert!(together == alone[index], "cache {index} in round {round}");
    }
    let latents: Vec<&Vec<f32>> = alone.iter().map(|(latents, _)| latents).collect();
    let differ = latents.iter().skip(1).filter(|other| **other != latents[0]).count();
    assert_eq!(differ, latents.len() - 1, "every cache acts");
}

#[test]
fn nothing_of_a_picture_is_left_for_the_next() {
    nothing_is_left(DeviceChoice::Cpu);
}

#[test]
fn cuda_nothing_of_a_picture_is_left_for_the_next() {
    let Some(_gpu) = gpu::gpu() else { return };
    nothing_is_left(DeviceChoice::Cuda(0));
}

#[test]
fn cuda_profile_takes_any_cache() {
    let Some(_gpu) = gpu::gpu() else { return };
    let mut engine = engine(DeviceChoice::Cuda(0), Mode::Xl);
    for cache in caches() {
        assert!(engine.profile(&small(cache)).unwrap().is_some());
    }
}
