//! What a mode means for a model on a device.

use crate::device::Device;
use crate::elastic::Mode;
use crate::elastic::Plan;
use crate::elastic::file;
use crate::error::Result;
use crate::model::config::FluxConfig;
use crate::model::plan::BlockPlans;
use crate::model::plan::Precision;
use crate::model::plan::Width;

/// The plan of a mode as `device` runs it, and the parts that it runs in bf16 and at full width though
/// the plan says otherwise, for want of a kernel.
///
/// # Errors
/// Those of a plan file.
pub(super) fn plan(
    mode: &Mode,
    device: &Device,
    config: &FluxConfig,
) -> Result<(Plan, Vec<&'static str>)> {
    let mut plan = match mode {
        Mode::Plan(path) => file::read(path, config)?,
        mode => {
            let blocks = [config.num_layers, config.num_single_layers];
            // Every mode but a file is built in.
            Plan::built_in(mode, blocks).unwrap_or_else(|| unreachable!("{mode} is built in"))
        }
    };
    let lowered = lower(&mut plan.blocks, device);
    Ok((plan, lowered))
}

/// Takes back what has no kernel on `device`, and names it.
fn lower(blocks: &mut BlockPlans, device: &Device) -> Vec<&'static str> {
    // On Hopper the linear layers but q, k and v; on the CPU all of it.
    let (linears, inputs, attention) = match device {
        Device::Cpu => (true, true, true),
        Device::Cuda(cuda) => (cuda.has_fp8(), false, false),
    };
    let mut lowered = Vec::new();
    let mut keep = |name, precision: &mut Precision, has_kernel: bool| {
        if precision.is_fp8() && !has_kernel {
            *precision = Precision::Bf16;
            lowered.push(name);
        }
    };
    let mut widths = Vec::new();
    for block in &mut blocks.double {
        keep("qkv", &mut block.qkv, inputs);
        keep("attention", &mut block.attention, attention);
        keep("out", &mut block.out, linears);
        keep("mlp_up", &mut block.mlp_up, linears);
        keep("mlp_down", &mut block.mlp_down, linears);
        widths.push(&mut block.width);
    }
    for block in &mut blocks.single {
        keep("linear1", &mut block.linear1, inputs);
        keep("attention", &mut block.attention, attention);
        keep("linear2", &mut block.linear2, linears);
        widths.push(&mut block.width);
    }
    for width in widths {
        if *width != Width::default() {
            *width = Width::default();
            lowered.push("width");
        }
    }
    lowered.sort_unstable();
    lowered.dedup();
    lowered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_runs_every_precision() {
        for mode in [Mode::Xl, Mode::L, Mode::M, Mode::S] {
            let mut blocks = Plan::built_in(&mode, [3, 4]).unwrap().blocks;
            let asked = blocks.clone();
            assert!(lower(&mut blocks, &Device::Cpu).is_empty() && blocks == asked, "{mode}");
        }
    }

    #[test]
    fn what_is_taken_back_is_named_once() {
        let mut blocks = BlockPlans::plain([2, 2]);
        blocks.single[0].width.heads = Some(1);
        blocks.double[1].width.mlp = Some(128);
        assert_eq!(lower(&mut blocks, &Device::Cpu), ["width"]);
        assert_eq!(blocks, BlockPlans::plain([2, 2]));
    }
}
