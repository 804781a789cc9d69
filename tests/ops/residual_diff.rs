//! `residual_diff` against a plain formula, and on CUDA every verdict of many generations.

mod generations;

use half::bf16;

use flux_rt::Error;
use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::residual_diff::Decider;
use flux_rt::ops::residual_diff::residual_diff;
use flux_rt::ops::residual_diff::rule::Counting;
use flux_rt::ops::residual_diff::rule::Limits;
use flux_rt::ops::residual_diff::rule::Reason;
use flux_rt::ops::residual_diff::rule::Rounding;
use flux_rt::ops::residual_diff::rule::Verdict;

use crate::common::gpu;
use crate::common::random;
use crate::narrow;

const STEPS: usize = 28;
const ROUNDINGS: [Rounding; 2] = [Rounding::Bf16, Rounding::F32];

/// No limit but the threshold.
fn limits(threshold: f64, rounding: Rounding) -> Limits {
    Limits {
        threshold,
        max_cached: None,
        max_continuous: None,
        max_accumulated: None,
        counting: Counting::Streak,
        rounding,
    }
}

fn decider(device: &Device, limits: &Limits, replay: &[Option<bool>]) -> Decider {
    let mut decider = Decider::new(device, STEPS).unwrap();
    decider.reset(limits, replay).unwrap();
    decider
}

fn counter(device: &Device, step: usize) -> Tensor<u32, 1> {
    gpu::to(device, Tensor::from_host([1], vec![u32::try_from(step).unwrap()]))
}

/// The decision and the verdict of step 5, with these tensors.
fn verdict(
    limits: &Limits,
    [reference, before, after]: [&Tensor<Act, 2>; 3],
) -> (u32, Option<Verdict>) {
    let device = reference.device();
    let mut decider = decider(&device, limits, &[]);
    let [reference, before, after] = [reference, before, after].map(Tensor::matrix);
    residual_diff(&mut decider, reference, before, after, &counter(&device, 5)).unwrap();
    let log = decider.log().unwrap();
    assert!(log.iter().enumerate().all(|(step, verdict)| (step == 5) == verdict.is_some()));
    (decider.decision.to_host().unwrap().host()[0], log[5])
}

/// A difference that is recorded, of step 5: reference, before and after are random and full of
/// multiples of 1/64 so small that bf16 holds every `after - before`.
fn random_diff(device: &Device, shape: [usize; 2], rounding: Rounding) -> f32 {
    let len = shape.iter().product();
    let whole = |seed, most: f32| random(len, seed).into_iter().map(move |x| (x * most).round());
    let tensor = |values: Vec<f32>| {
        let values = values.into_iter().map(|value| value / 64.0).collect();
        gpu::to(device, Tensor::<Act, 2>::from_host(shape, values))
    };
    // Before within 100 and the residual within 150: after within 250, and 256 is 2^8.
    let before: Vec<f32> = whole(1, 100.0).collect();
    let residual: Vec<f32> = whole(2, 150.0).collect();
    let after = before.iter().zip(&residual).map(|(before, residual)| before + residual).collect();
    let near = whole(3, 40.0).zip(&residual).map(|(far, residual)| residual + far + 1.0);
    let operands = [tensor(near.collect()), tensor(before), tensor(after)];
    let (decision, verdict) = verdict(&limits(0.25, rounding), operands.each_ref());
    let Some(Verdict { reason, diff: Some(diff) }) = verdict else { panic!("{verdict:?}") };
    assert_eq!((decision == 1, reason.is_hit()), (diff < 0.25, diff < 0.25), "{diff}");
    diff
}

#[test]
fn a_plain_formula_gives_the_same() {
    let round = |value: f32| bf16::from_f32(value).to_f32();
    let shape = [7, 33];
    let values = |seed| random(231, seed).into_iter().map(round).collect::<Vec<_>>();
    let (reference, before, after) = (values(1), values(2), values(3));
    let sums = |round: &dyn Fn(f32) -> f32| {
        let moved = |index: usize| {
            f64::from(round(reference[index] - round(after[index] - before[index])).abs())
        };
        let [moved, size]: [f64; 2] = [
            (0..231).map(moved).sum(),
            reference.iter().map(|&value| f64::from(value.abs())).sum(),
        ];
        round(round(narrow(moved / 231.0)) / round(narrow(size / 231.0)))
    };
    let expected = [sums(&round), sums(&|value| value)];
    assert_ne!(expected[0], expected[1]);
    let tensor = |values: &[f32]| Tensor::<Act, 2>::from_host(shape, values.to_vec());
    let operands = [tensor(&reference), tensor(&before), tensor(&after)];
    for (rounding, expected) in ROUNDINGS.into_iter().zip(expected) {
        let (decision, verdict) = verdict(&limits(0.5, rounding), operands.each_ref());
        let Some(Verdict { reason: Reason::Miss, diff: Some(diff) }) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(decision, 0);
        assert!((diff - expected).abs() <= 1e-6 * expected, "{diff}, expected {expected}");
    }
}

const EDGES: [[usize; 2]; 10] = [
    [1, 1],
    [1, 7],
    [1, 8],
    [3, 5],
    [1, 6143],
    [2, 3072],
    [1, 6145],
    [3, 4104],
    [129, 1001],
    [257, 3072],
];

#[test]
fn roundings_differ_by_no_more_than_they_round() {
    for shape in EDGES {
        let [rounded, exact] = ROUNDINGS.map(|rounding| random_diff(&Device::Cpu, shape, rounding));
        assert!((rounded - exact).abs() <= 0.012 * exact, "{shape:?}: {rounded}, exactly {exact}");
    }
}

/// Where there is nothing to divide by, the difference is NaN or infinite and no hit.
fn zeros_are_a_miss(device: &Device) {
    let tensor = |value: f32| gpu::to(device, Tensor::<Act, 2>::from_host([3, 8], vec![value; 24]));
    let (zeros, ones) = (tensor(0.0), tensor(1.0));
    for rounding in ROUNDINGS {
        let limits = limits(0.99, rounding);
        let (decision, same) = verdict(&limits, [&zeros, &ones, &ones]);
        let Some(Verdict { reason: Reason::Miss, diff: Some(diff) }) = same else {
            panic!("{same:?}")
        };
        assert!(decision == 0 && diff.is_nan(), "{diff}");
        let infinite = Verdict { reason: Reason::Miss, diff: Some(f32::INFINITY) };
        assert_eq!(verdict(&limits, [&zeros, &zeros, &ones]), (0, Some(infinite)));
    }
}

/// At step 0 nothing is compared, whatever lies where the reference will be.
fn step_0_has_no_reference(device: &Device) {
    let nothing = Tensor::<Act, 2>::from_host([2, 5], vec![f32::NAN; 10]);
    let nothing = gpu::to(device, nothing);
    let stream = gpu::act(device, [2, 5], 1);
    let none = Verdict { reason: Reason::NoReference, diff: None };
    for (threshold, reason) in [(0.5, none.reason), (1.0, none.reason), (0.0, Reason::NoThreshold)]
    {
        let limits = limits(threshold, Rounding::Bf16);
        let mut decider = decider(device, &limits, &[]);
        let [nothing, stream] = [nothing.matrix(), stream.matrix()];
        residual_diff(&mut decider, nothing, stream, stream, &counter(device, 0)).unwrap();
        assert_eq!(decider.decision.to_host().unwrap().host(), [0]);
        let log = decider.log().unwrap();
        assert_eq!(log[0], Some(Verdict { reason, ..none }), "threshold {threshold}");
        assert_eq!(log[1..], [None; STEPS - 1]);
    }
}

#[test]
fn a_reference_of_zeros_is_a_miss() {
    zeros_are_a_miss(&Device::Cpu);
}

#[test]
fn the_first_step_has_no_reference() {
    step_0_has_no_reference(&Device::Cpu);
}

#[test]
fn misfits_are_refused() {
    let limits = limits(0.5, Rounding::F32);
    let mut decider = decider(&Device::Cpu, &limits, &[]);
    let (x, y) = (Tensor::<Act, 2>::zeros([2, 3]), Tensor::<Act, 2>::zeros([2, 4]));
    let (x, y) = (x.matrix(), y.matrix());
    let step = counter(&Device::Cpu, 1);
    let result = residual_diff(&mut decider, x, y, x, &step);
    assert!(matches!(result, Err(Error::Shape { tensor: "before", .. })));
    let result = residual_diff(&mut decider, x, x, y, &step);
    assert!(matches!(result, Err(Error::Shape { tensor: "after", .. })));
    let result = residual_diff(&mut decider, x, x, x, &counter(&Device::Cpu, STEPS));
    assert!(matches!(result, Err(Error::Shape { tensor: "step", .. })));
    let result = decider.reset(&limits, &[None; STEPS + 1]);
    assert!(matches!(result, Err(Error::Shape { tensor: "replay", .. })));
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    let real = [[4608, 3072], [4096, 3072], [4607, 3071]].into_iter().filter(|_| !gpu.small());
    for shape in EDGES.into_iter().chain(real) {
        for rounding in ROUNDINGS {
            let what = format!("{shape:?}, {rounding:?}");
            let actual =
                gpu.run(&what, |device| vec![random_diff(device, shape, rounding).to_bits()]);
            let actual = f32::from_bits(actual[0]);
            let expected = random_diff(&Device::Cpu, shape, rounding);
            // The sums agree to 1e-6 or so; where means are rounded one of them may have been near
            // a tie, and then the quotient is a bf16 or two further.
            let tolerance = if rounding == Rounding::F32 { 1e-5 } else { 1.0 / 64.0 };
            let error = (actual - expected).abs();
            assert!(error <= tolerance * expected, "{what}: {actual}, expected {expected}");
        }
    }
}

#[test]
fn cuda_rounds_residuals_and_differences() {
    let Some(gpu) = gpu::gpu() else { return };
    // What bf16 does not hold: the oracle rounds in the same places, in this mode.
    let run = |device: &Device| {
        let operands = [1, 2, 3].map(|seed| gpu::act(device, [65, 1000], seed));
        let (_, verdict) = verdict(&limits(0.5, Rounding::Bf16), operands.each_ref());
        vec![verdict.and_then(|verdict| verdict.diff).unwrap()]
    };
    let (actual, expected) = (gpu.run("random", run)[0], run(&Device::Cpu)[0]);
    assert!((actual - expected).abs() <= expected / 64.0, "{actual}, expected {expected}");
    assert_eq!(actual, bf16::from_f32(actual).to_f32());
}

#[test]
fn cuda_a_reference_of_zeros_is_a_miss() {
    let Some(gpu) = gpu::gpu() else { return };
    zeros_are_a_miss(&gpu);
}

#[test]
fn cuda_the_first_step_has_no_reference() {
    let Some(gpu) = gpu::gpu() else { return };
    step_0_has_no_reference(&gpu);
}

#[test]
fn cuda_past_the_last_step_nothing_is_logged() {
    let Some(gpu) = gpu::gpu() else { return };
    let x = gpu::act(&gpu, [9, 64], 1);
    let zeros = gpu::to(&gpu, Tensor::<Act, 2>::zeros([9, 64]));
    let [x, zeros] = [x.matrix(), zeros.matrix()];
    // At a difference of 0 all would be hits.
    let mut decider = decider(&gpu, &limits(0.5, Rounding::F32), &[]);
    for (at, decision) in [(STEPS - 1, 1), (STEPS, 0), (STEPS + 9, 0)] {
        residual_diff(&mut decider, x, zeros, x, &counter(&gpu, at)).unwrap();
        assert_eq!(decider.decision.to_host().unwrap().host(), [decision], "step {at}");
    }
    let log = decider.log().unwrap();
    assert_eq!(log[..STEPS - 1], [None; STEPS - 1]);
    let hit = Verdict { reason: Reason::Hit, diff: Some(0.0) };
    assert_eq!(log[STEPS - 1], Some(hit));
}

#[test]
fn cuda_needs_rows_behind_one_another() {
    let Some(gpu) = gpu::gpu() else { return };
    let (wide, x) = (gpu::act(&gpu, [4, 16], 1), gpu::act(&gpu, [4, 8], 2));
    let mut decider = decider(&gpu, &limits(0.5, Rounding::F32), &[]);
    let result = residual_diff(
        &mut decider,
        x.matrix(),
        wide.matrix().columns(8..16),
        x.matrix(),
        &counter(&gpu, 1),
    );
    assert!(matches!(result, Err(Error::Shape { tensor: "before", .. })), "{result:?}");
}
