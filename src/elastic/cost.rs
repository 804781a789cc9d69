//! What a step costs by the table of kernels: for plans that are made where they do not run.

use crate::model::config::FluxConfig;
use crate::model::plan::BlockPlans;
use crate::model::plan::BlockSizes;
use crate::model::plan::Precision;

/// TFLOP/s of an H100 in a picture of 1024x1024: BENCHMARKS.md.
const PRODUCT: [f64; 2] = [672.0, 1310.0];
/// Of attention likewise.
const ATTENTION: [f64; 2] = [543.0, 658.0];

fn rate(rates: [f64; 2], precision: Precision) -> f64 {
    rates[usize::from(precision.is_fp8())]
}

/// What the blocks of one step over `seq` tokens take, in units of their own: ratios alone mean something.
#[must_use]
pub fn cost(config: &FluxConfig, plans: &BlockPlans, seq: usize) -> f64 {
    let full = BlockSizes::full(config);
    let product = |n: usize, k: usize, precision| (n * k) as f64 / rate(PRODUCT, precision);
    let attention = |sizes: BlockSizes, precision| {
        (2 * seq * sizes.attention) as f64 / rate(ATTENTION, precision)
    };
    let double = plans.double.iter().map(|plan| {
        let sizes = full.narrowed(plan.width);
        product(3 * sizes.attention, sizes.hidden, plan.qkv)
            + product(sizes.hidden, sizes.attention, plan.out)
            + product(sizes.mlp, sizes.hidden, plan.mlp_up)
            + product(sizes.hidden, sizes.mlp, plan.mlp_down)
            + attention(sizes, plan.attention)
    });
    let single = plans.single.iter().map(|plan| {
        let sizes = full.narrowed(plan.width);
        product(3 * sizes.attention + sizes.mlp, sizes.hidden, plan.linear1)
            + product(sizes.hidden, sizes.attention + sizes.mlp, plan.linear2)
            + attention(sizes, plan.attention)
    });
    double.chain(single).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elastic::Mode;
    use crate::elastic::Plan;
    use crate::model::source::ModelSource;

    /// Beside what was measured: S 1.974 of 3.298 s, BENCHMARKS.md.
    #[test]
    fn modes_cost_about_what_was_measured() {
        let config =
            ModelSource::new("synthetic:flux-dev").resolve().unwrap().flux_config().unwrap();
        let of = |mode| cost(&config, &Plan::built_in(&mode, [19, 38]).unwrap().blocks, 4608);
        let ratio = of(Mode::S) / of(Mode::Xl);
        assert!((ratio - 1.974 / 3.298).abs() < 0.05, "{ratio}");
        assert!(
            of(Mode::S) < of(Mode::M) && of(Mode::M) < of(Mode::L) && of(Mode::L) < of(Mode::Xl)
        );
    }

    #[test]
    fn fewer_neurons_cost_less() {
        let config =
            ModelSource::new("synthetic:flux-dev").resolve().unwrap().flux_config().unwrap();
        let mut plan = BlockPlans::plain([config.num_layers, config.num_single_layers]);
        let whole = cost(&config, &plan, 4608);
        plan.double.iter_mut().for_each(|block| block.width.mlp = Some(6144));
        assert!(cost(&config, &plan, 4608) < whole);
    }
}
