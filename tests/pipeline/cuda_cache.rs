//! The DualCache on a GPU: decided there, the CPU's picture under the same decisions, and nothing of
//! the host between two steps.

use flux_rt::cache::CacheLog;
use flux_rt::cache::CacheOptions;
use flux_rt::cache::Layout;
use flux_rt::cache::ListOptions;
use flux_rt::cache::Mask;
use flux_rt::cache::MaskPolicy;
use flux_rt::cache::Preset;
use flux_rt::cache::Reason;
use flux_rt::elastic::Mode;
use flux_rt::pipeline::DeviceChoice;
use flux_rt::pipeline::Generated;
use flux_rt::pipeline::Request;

use crate::common::gpu;
use crate::cuda::LATENTS;
use crate::cuda::PSNR;
use crate::cuda::distance;
use crate::cuda::engine;
use crate::cuda::psnr;
use crate::cuda::request;

/// Nanoseconds from the end of a step to the beginning of the next: a launch that waits in the queue.
const GAP: u64 = 100_000;

fn aggressive() -> CacheOptions {
    Preset::Aggressive.options().unwrap()
}

fn with(change: impl Fn(&mut ListOptions)) -> CacheOptions {
    let mut options = aggressive();
    change(&mut options.double);
    change(&mut options.single);
    options
}

/// Options that exercise every kernel of the cache.
fn cases() -> Vec<(&'static str, CacheOptions)> {
    let unified = CacheOptions { layout: Layout::Unified, ..aggressive() };
    let split = CacheOptions { layout: Layout::Split, ..with(|list| list.bn_blocks = 2) };
    let mask = |policy| {
        with(move |list| {
            list.mask = Some(Mask::try_from("fast".to_owned()).unwrap());
            list.mask_policy = policy;
        })
    };
    vec![
        ("aggressive", aggressive()),
        ("conservative", Preset::Conservative.options().unwrap()),
        ("unified", unified),
        ("split, Bn 2", split),
        ("Fn 3", with(|list| list.fn_blocks = 3)),
        ("TaylorSeer 1", with(|list| list.taylor_order = 1)),
        ("TaylorSeer 2", with(|list| list.taylor_order = 2)),
        ("static mask", mask(MaskPolicy::Static)),
        ("dynamic mask", mask(MaskPolicy::Dynamic)),
        ("early warmup", with(|list| (list.warmup, list.warmup_interval) = (6, 2))),
        ("no warmup", with(|list| list.warmup = 0)),
    ]
}

/// The same with the decisions of a run.
fn replay(mut options: CacheOptions, log: &CacheLog) -> CacheOptions {
    let hits = |index: usize| {
        let steps = log.lists[index].steps.iter().enumerate();
        let hits = steps.filter(|(_, verdict)| verdict.reason == Reason::Hit);
        Some(hits.map(|(step, _)| step).collect())
    };
    options.double.replay = hits(0);
    options.single.replay = hits(log.lists.len() - 1);
    options
}

fn hits(generated: &Generated) -> Vec<Vec<usize>> {
    let log = generated.cache.as_ref().unwrap();
    log.lists.iter().map(flux_rt::cache::ListLog::cached_steps).collect()
}

#[test]
fn cuda_cached_pictures_are_the_cpus_under_the_same_decisions() {
    let Some(_gpu) = gpu::gpu() else { return };
    let mut cuda = engine(DeviceChoice::Cuda(0), Mode::Xl);
    let mut cpu = engine(DeviceChoice::Cpu, Mode::Xl);
    let plain = cuda.generate(&request("a red apple", 42)).unwrap();
    for (what, options) in cases() {
        let cached =
            |options: CacheOptions| Request { cache: Some(options), ..request("a red apple", 42) };
        let decided = cuda.generate(&cached(options.clone())).unwrap();
        assert!(hits(&decided).iter().all(|steps| !steps.is_empty()), "{what}: hits");
        assert_ne!(decided.image, plain.image, "{what}: the cache acts");
        let replayed = replay(options.clone(), decided.cache.as_ref().unwrap());
        let expected = cpu.generate(&cached(replayed.clone())).unwrap();
        assert_eq!(hits(&expected), hits(&decided), "{what}: the same decisions");
        let error = distance(what, decided.latents.host(), expected.latents.host());
        let psnr = psnr(&decided, &expected);
        println!("{what}: latents {error:.2e}, PSNR {psnr:.1} dB, {:?}", hits(&decided));
        assert!(error <= LATENTS, "{what}: latents {error}");
        assert!(psnr >= PSNR, "{what}: {psnr} dB");
        // On one device a replay is the run itself.
        let again = cuda.generate(&cached(replayed)).unwrap();
        assert_eq!(again.image, decided.image, "{what}: replayed on the GPU");
        let log = |generated: &Generated| generated.cache.clone().unwrap().lists;
        let both = log(&again).into_iter().zip(log(&decided));
        for (again, decided) in both {
            assert_eq!(
                again.residual_diffs(),
                decided.residual_diffs(),
                "{what}: it still compares"
            );
        }
    }
}

#[test]
fn cuda_cache_repeats_bits_and_allocates_nothing_after_the_first_image() {
    let Some(_gpu) = gpu::gpu() else { return };
    let mut engine = engine(DeviceChoice::Cuda(0), Mode::Xl);
    let apple = Request { cache: Some(aggressive()), ..request("a red apple", 7) };
    let car = Request { cache: Some(aggressive()), ..request("a blue car", 8) };
    let first = engine.generate(&apple).unwrap();
    let before = engine.gpu_memory().unwrap();
    let other = engine.generate(&car).unwrap();
    let again = engine.generate(&apple).unwrap();
    // Another threshold is no other graph.
    let strict = Request { cache: Some(with(|list| list.threshold = 0.0)), ..apple.clone() };
    let computed = engine.generate(&strict).unwrap();
    let after = engine.gpu_memory().unwrap();
    assert_eq!((&first.image, hits(&first)), (&again.image, hits(&again)));
    assert_eq!(first.latents.host(), again.latents.host());
    assert_ne!(first.image, other.image);
    assert_eq!(before.allocations, after.allocations);
    assert!(hits(&computed).iter().all(Vec::is_empty));
    let plain = engine.generate(&Request { cache: None, ..apple }).unwrap();
    assert_eq!(plain.image, computed.image, "a cache without hits changes nothing");
}

#[test]
fn cuda_steps_follow_one_another_on_the_device() {
    let Some(_gpu) = gpu::gpu() else { return };
    let mut engine = engine(DeviceChoice::Cuda(0), Mode::Xl);
    let request = Request { cache: Some(aggressive()), ..request("a red apple", 7) };
    engine.generate(&request).unwrap();
    let times = engine.generate(&request).unwrap().step_times;
    assert_eq!(times.len(), 28);
    let mut gaps: Vec<u64> = times.windows(2).map(|pair| pair[1][0] - pair[0][1]).collect();
    gaps.sort_unstable();
    let [least, middle, most] = [gaps[0], gaps[gaps.len() / 2], gaps[gaps.len() - 1]];
    println!("between two steps {least} to {most} ns, median {middle}");
    assert!(middle <= GAP, "median of the gaps {middle} ns");
    assert!(times.iter().all(|[begin, end]| begin < end));
}
