//! `residual_diff`: a decision over the joint and over the image's stream, in both roundings.

use flux_rt::device::Act;
use flux_rt::device::Tensor;
use flux_rt::ops::residual_diff::Decider;
use flux_rt::ops::residual_diff::residual_diff;
use flux_rt::ops::residual_diff::rule::Counting;
use flux_rt::ops::residual_diff::rule::Limits;
use flux_rt::ops::residual_diff::rule::Rounding;

use crate::Bench;
use crate::Work;

pub(crate) fn run(bench: &mut Bench) {
    for rows in bench.pick([1152, 1024], [4608, 4096]) {
        for (name, rounding) in [("bf16", Rounding::Bf16), ("f32", Rounding::F32)] {
            case(bench, &format!("{rows}x3072 {name}"), [rows, 3072], rounding);
        }
    }
}

fn case(bench: &mut Bench, name: &str, shape: [usize; 2], rounding: Rounding) {
    let work = Work { values: 3 * shape[0] * shape[1], ..Work::default() };
    bench.case("residual_diff", name, work, |device| {
        let reference: Tensor<Act, 2> = crate::random(device, shape, 1)?;
        let before: Tensor<Act, 2> = crate::random(device, shape, 2)?;
        let after: Tensor<Act, 2> = crate::random(device, shape, 3)?;
        let mut decider = Decider::new(device, 28)?;
        let limits = Limits {
            threshold: 0.2,
            max_cached: None,
            max_continuous: Some(10),
            max_accumulated: None,
            counting: Counting::Streak,
            rounding,
        };
        decider.reset(&limits, &[])?;
        let step = crate::step(device, 13)?;
        Ok(move || {
            let [reference, before, after] = [&reference, &before, &after].map(Tensor::matrix);
            residual_diff(&mut decider, reference, before, after, &step)
        })
    });
}
