//! `taylor_update` and `taylor_forecast` on effects whose quotients can be taken by hand.

use flux_rt::Error;
use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::taylor::MAX_ORDER;
use flux_rt::ops::taylor::TaylorSeries;
use flux_rt::ops::taylor::taylor_forecast;
use flux_rt::ops::taylor::taylor_update;

use crate::common::Tolerance;
use crate::common::gpu;
use crate::random;

fn counter(device: &Device, step: u32) -> Tensor<u32, 1> {
    gpu::to(device, Tensor::from_host([1], vec![step]))
}

/// A series of one element, whose effects are given with their steps.
fn series_of(order: usize, effects: &[(u32, f32)]) -> TaylorSeries {
    let mut series = TaylorSeries::new(&Device::Cpu, order, [1, 1]).unwrap();
    series.reset().unwrap();
    let before = Tensor::<Act, 2>::from_host([1, 1], vec![10.0]);
    for &(step, effect) in effects {
        let after = Tensor::<Act, 2>::from_host([1, 1], vec![10.0 + effect]);
        let step = counter(&Device::Cpu, step);
        taylor_update(&mut series, before.matrix(), after.matrix(), &step).unwrap();
    }
    series
}

/// What the series forecasts at `step` for a stream of 100, less that 100.
fn forecast(series: &TaylorSeries, step: u32) -> f32 {
    let before = Tensor::<Act, 2>::from_host([1, 1], vec![100.0]);
    let mut out = Tensor::<Act, 2>::zeros([1, 1]);
    let step = counter(&Device::Cpu, step);
    taylor_forecast(out.matrix_mut(), before.matrix(), series, 0, &step).unwrap();
    out.host()[0] - 100.0
}

#[test]
fn order_0_repeats_the_last_effect() {
    let series = series_of(0, &[(2, 1.0), (3, 4.0), (4, 8.0)]);
    assert_eq!(forecast(&series, 5), 8.0);
    assert_eq!(forecast(&series, 9), 8.0);
}

#[test]
fn order_1_goes_on_straight_over_uneven_gaps() {
    let series = series_of(1, &[(2, 1.0), (3, 4.0), (7, 12.0)]);
    // (12 - 4) / 4 a step.
    assert_eq!(forecast(&series, 7), 12.0);
    assert_eq!(forecast(&series, 8), 14.0);
    assert_eq!(forecast(&series, 10), 18.0);
}

#[test]
fn order_2_divides_every_order_by_the_last_gap() {
    // Y1 is 3 at step 4 and (13 - 5) / 2 = 4 at step 6, so Y2 is (4 - 3) / 2, not what true divided
    // differences would give.
    let series = series_of(2, &[(3, 2.0), (4, 5.0), (6, 13.0)]);
    assert_eq!(forecast(&series, 7), 13.0 + 4.0 + 0.25);
    assert_eq!(forecast(&series, 8), 13.0 + 8.0 + 1.0);
}

#[test]
fn quotients_begin_at_step_3_one_order_a_step() {
    let effects = [(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0), (4, 16.0)];
    for (updates, expected) in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 12.0), (5, 16.0 + 8.0 + 2.0)] {
        let series = series_of(2, &effects[..updates]);
        let (last, _) = effects[updates - 1];
        assert_eq!(forecast(&series, last + 1), expected, "after step {last}");
    }
}

#[test]
fn nothing_is_forecast_from_nothing() {
    let mut series = series_of(2, &[(3, 2.0), (4, 5.0)]);
    assert_eq!(forecast(&series, 5), 8.0);
    series.reset().unwrap();
    assert_eq!(forecast(&series, 6), 0.0);
    // What was known before is forgotten: the first update has no order below it.
    let (before, after) = (Tensor::<Act, 2>::zeros([1, 1]), Tensor::from_host([1, 1], vec![3.0]));
    let step = counter(&Device::Cpu, 7);
    taylor_update(&mut series, before.matrix(), after.matrix(), &step).unwrap();
    assert_eq!(forecast(&series, 9), 3.0);
}

#[test]
fn rows_may_begin_further_down() {
    let mut series = TaylorSeries::new(&Device::Cpu, 1, [5, 3]).unwrap();
    series.reset().unwrap();
    let mut last = Vec::new();
    for step in [3, 4] {
        let (before, after): (Tensor<Act, 2>, Tensor<Act, 2>) =
            (random([5, 3], u64::from(step)), random([5, 3], 10 + u64::from(step)));
        let step = counter(&Device::Cpu, step);
        taylor_update(&mut series, before.matrix(), after.matrix(), &step).unwrap();
        last.push(
            (0..15).map(|index| after.host()[index] - before.host()[index]).collect::<Vec<_>>(),
        );
    }
    let before: Tensor<Act, 2> = random([2, 3], 7);
    let mut out = Tensor::<Act, 2>::zeros([2, 3]);
    let step = counter(&Device::Cpu, 6);
    taylor_forecast(out.matrix_mut(), before.matrix(), &series, 3, &step).unwrap();
    for (index, &value) in out.host().iter().enumerate() {
        let [old, new] = [last[0][9 + index], last[1][9 + index]];
        assert_eq!(value, before.host()[index] + new + 2.0 * (new - old), "element {index}");
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let mut series = TaylorSeries::new(&Device::Cpu, 1, [4, 3]).unwrap();
    let (fits, other) = (Tensor::<Act, 2>::zeros([4, 3]), Tensor::<Act, 2>::zeros([4, 2]));
    let step = Tensor::zeros([1]);
    assert!(matches!(
        taylor_update(&mut series, fits.matrix(), other.matrix(), &step),
        Err(Error::Shape { op: "taylor_update", .. })
    ));
    let mut out = Tensor::<Act, 2>::zeros([3, 3]);
    let result = taylor_forecast(out.matrix_mut(), fits.matrix().rows(0..3), &series, 2, &step);
    assert!(matches!(result, Err(Error::Shape { op: "taylor_forecast", .. })));
}

/// What forecasts between the updates of uneven steps give, of the rows from a third on.
fn forecasts(device: &Device, order: usize, shape: [usize; 2]) -> Vec<f32> {
    let first_row = shape[0] / 3;
    let part = [shape[0] - first_row, shape[1]];
    let mut series = TaylorSeries::new(device, order, shape).unwrap();
    series.reset().unwrap();
    let mut all = Vec::new();
    for (seed, at) in [2, 3, 4, 7, 8].into_iter().enumerate() {
        let seed = 2 * seed as u64;
        let before: Tensor<Act, 2> = gpu::act(device, shape, seed);
        let after: Tensor<Act, 2> = gpu::act(device, shape, seed + 1);
        taylor_update(&mut series, before.matrix(), after.matrix(), &counter(device, at)).unwrap();
        let mut out = gpu::framed(device, part, 0);
        let view = gpu::inside_mut(&mut out, 0);
        let before = before.matrix().rows(first_row..shape[0]);
        taylor_forecast(view, before, &series, first_row, &counter(device, at + 2)).unwrap();
        all.extend(gpu::unframed(out, 0));
    }
    all
}

#[test]
fn cuda_agrees_with_the_oracle() {
    let Some(gpu) = gpu::gpu() else { return };
    // The oracle keeps f32 quotients. Here effects below 2, first quotients below 4 and second ones
    // below 8 are rounded where they are stored, off by up to 0.004, 0.016 and 0.039 with what they
    // take over; two steps ahead that is 0.004, 0.035 and 0.113 at worst, mostly far less.
    let tolerance = |order: usize, [rows, columns]: [usize; 2]| {
        let atol = [1.0 / 128.0, 1.0 / 16.0, 1.0 / 8.0][order];
        // Few numbers have no mean error to speak of.
        let l2 = if rows * columns < 256 { 2e-2 } else { 4e-3 };
        Tolerance { atol, rtol: 1.0 / 64.0, l2 }
    };
    let edges = [[1, 1], [1, 8], [3, 5], [3, 2048], [7, 129], [65, 64], [2, 4104]];
    let real = [[4608, 3072]].into_iter().filter(|_| !gpu.small());
    for shape in edges.into_iter().chain(real) {
        for order in 0..=MAX_ORDER {
            let what = format!("{shape:?}, order {order}");
            gpu.agrees(&what, tolerance(order, shape), |device| forecasts(device, order, shape));
        }
    }
}

#[test]
fn cuda_agrees_exactly_where_nothing_is_rounded() {
    let Some(gpu) = gpu::gpu() else { return };
    // Effects of the whole numbers to 8, gaps that are powers of two: all quotients and forecasts
    // fit bf16.
    let run = |device: &Device, order: usize| {
        let shape = [9, 40];
        let mut series = TaylorSeries::new(device, order, shape).unwrap();
        series.reset().unwrap();
        let mut all = Vec::new();
        for (at, ahead) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 0), (6, 1), (8, 2), (12, 1)] {
            let whole = |factor: usize| {
                let values = (0..360).map(|index| ((index * factor + at as usize) % 9) as f32);
                gpu::to(device, Tensor::<Act, 2>::from_host(shape, values.collect()))
            };
            let (before, after) = (whole(5), whole(7));
            let step = counter(device, at);
            taylor_update(&mut series, before.matrix(), after.matrix(), &step).unwrap();
            let mut out = gpu::framed(device, shape, 0);
            let view = gpu::inside_mut(&mut out, 0);
            let step = counter(device, at + ahead);
            taylor_forecast(view, before.matrix(), &series, 0, &step).unwrap();
            all.extend(gpu::unframed(out, 0));
        }
        all
    };
    for order in 0..=MAX_ORDER {
        gpu.agrees_exactly(&format!("order {order}"), |device| run(device, order));
    }
}

#[test]
fn cuda_refuses_what_it_has_no_kernel_for() {
    let Some(gpu) = gpu::gpu() else { return };
    let mut series = TaylorSeries::new(&gpu, MAX_ORDER + 1, [2, 8]).unwrap();
    series.reset().unwrap();
    let x = gpu::act(&gpu, [2, 8], 1);
    let error = taylor_update(&mut series, x.matrix(), x.matrix(), &counter(&gpu, 0)).unwrap_err();
    let expected = "taylor_update: quotients has shape 3, expected orders up to 2";
    assert_eq!(error.to_string(), expected);
}
