//! What a mode means for a model on a device.

use std::path::Path;

use crate::device::Device;
use crate::elastic::Mode;
use crate::elastic::Plan;
use crate::elastic::RecordedPlan;
use crate::elastic::choice::Offer;
use crate::elastic::file;
use crate::error::Error;
use crate::error::Result;
use crate::files::File;
use crate::model::config::FluxConfig;
use crate::model::plan::BlockPlans;
use crate::model::plan::Precision;
use crate::model::plan::Width;
use crate::model::source::ModelFiles;
use crate::pipeline::widths::has_widths;

/// The transformer's digest, once a plan has asked for it: all of its weights are read for that.
pub(super) type Digest = Option<Option<String>>;

/// The plan of a mode as `device` runs it, the model's own where it has one, and the parts that it runs in
/// bf16 though the plan says otherwise, for want of a kernel.
///
/// # Errors
/// Those of a plan file, one for another transformer among them.
pub(super) fn plan(
    mode: &Mode,
    device: &Device,
    files: &ModelFiles,
    config: &FluxConfig,
    digest: &mut Digest,
) -> Result<(Plan, Vec<&'static str>)> {
    let read = |file: File| Ok((file::read(&file, config)?, file.path().to_owned()));
    let own = match mode {
        Mode::Plan(path) => Some(read(File::Disk(path.clone()))?),
        Mode::Recorded(recorded) => {
            let RecordedPlan { plan, picture, .. } = &**recorded;
            Some((file::parse(&plan.to_string(), picture, config)?, picture.clone()))
        }
        Mode::Original | Mode::Xl => None,
        Mode::L | Mode::M | Mode::S => {
            let file = files.plans.as_ref().and_then(|plans| plans.file(&format!("{mode}.json")));
            file.map(read).transpose()?
        }
    };
    let mut plan = match own {
        Some((plan, path)) => {
            check_model(&plan, &path, files, digest)?;
            check_widths(&plan, &path, files)?;
            plan
        }
        None => {
            let blocks = [config.num_layers, config.num_single_layers];
            // Every mode but those is built in.
            Plan::built_in(mode, blocks).unwrap_or_else(|| unreachable!("{mode} is built in"))
        }
    };
    let lowered = lower(&mut plan.blocks, kernels(device, config));
    Ok((plan, lowered))
}

fn kernels(device: &Device, config: &FluxConfig) -> Kernels {
    match device {
        Device::Cpu => Kernels::ALL,
        Device::Cuda(cuda) => Kernels {
            linears: cuda.has_fp8(),
            attention: cuda.has_fp8() && config.attention_head_dim == 128,
            mixed: false,
        },
    }
}

/// What a planner can choose from for a model on `device`.
///
/// # Errors
/// [`Error::Format`] for an `elastic.json` that is none.
pub(super) fn offer(device: &Device, files: &ModelFiles, config: &FluxConfig) -> Result<Offer> {
    let kernels = kernels(device, config);
    let widths = has_widths(&files.transformer, files.elastic.as_ref())?;
    Ok(Offer { linears: kernels.linears, attention: kernels.attention, widths })
}

/// Fails if the plan was made for another transformer: what it says of losses is not true of this one.
fn check_model(plan: &Plan, path: &Path, files: &ModelFiles, digest: &mut Digest) -> Result<()> {
    let Some(expected) = &plan.model else { return Ok(()) };
    let found = match digest {
        Some(known) => known,
        None => digest.insert(files.transformer_digest()?),
    };
    if found.as_ref() == Some(expected) {
        return Ok(());
    }
    let found = found.clone().unwrap_or_else(|| "a model without files".into());
    Err(Error::Config {
        path: path.to_owned(),
        field: "model".into(),
        expected: format!("a plan for this transformer, {found}"),
        actual: format!("one for {expected}; make a plan for this one, or take out `model`"),
    })
}

/// Fails if the plan leaves out heads or neurons of a model in which the last are no less important
/// than the first.
fn check_widths(plan: &Plan, path: &Path, files: &ModelFiles) -> Result<()> {
    let narrow = plan.blocks.widths().into_iter().any(|width| width != Width::default());
    if !narrow || has_widths(&files.transformer, files.elastic.as_ref())? {
        return Ok(());
    }
    Err(Error::Config {
        path: path.to_owned(),
        field: "heads or mlp".into(),
        expected: "full width, for this model is not prepared for less".into(),
        actual: "less; make a model that is with `flux-rt elastic prepare --out DIR`".into(),
    })
}

/// The parts that a plan says in another precision than a mode says: those that lacked a kernel here, and
/// where a picture's plan is repeated those that lacked one there.
pub(super) fn all_lowered(mode: &Mode, here: &[&'static str]) -> Vec<&'static str> {
    let there = match mode {
        Mode::Recorded(recorded) => recorded.lowered.as_slice(),
        _ => &[],
    };
    let is_lowered = |part: &&str| here.contains(part) || there.iter().any(|name| name == part);
    PARTS.into_iter().filter(is_lowered).collect()
}

/// The parts that [`lower`] names, sorted.
const PARTS: [&str; 7] = ["attention", "linear1", "linear2", "mlp_down", "mlp_up", "out", "qkv"];

/// What a device can compute in e4m3.
#[derive(Debug, Clone, Copy)]
struct Kernels {
    linears: bool,
    attention: bool,
    /// The MLP's first layer where its second is in bf16.
    mixed: bool,
}

impl Kernels {
    const ALL: Self = Self { linears: true, attention: true, mixed: true };
}

/// Takes back what has no kernel, and names it.
fn lower(blocks: &mut BlockPlans, kernels: Kernels) -> Vec<&'static str> {
    let Kernels { linears, attention, mixed } = kernels;
    let mut lowered = Vec::new();
    let mut keep = |name, precision: &mut Precision, has_kernel: bool| {
        if precision.is_fp8() && !has_kernel {
            *precision = Precision::Bf16;
            lowered.push(name);
        }
    };
    for block in &mut blocks.double {
        keep("qkv", &mut block.qkv, linears);
        keep("attention", &mut block.attention, attention);
        keep("out", &mut block.out, linears);
        keep("mlp_up", &mut block.mlp_up, linears && (mixed || block.mlp_down.is_fp8()));
        keep("mlp_down", &mut block.mlp_down, linears);
    }
    for block in &mut blocks.single {
        keep("linear1", &mut block.linear1, linears && (mixed || block.linear2.is_fp8()));
        keep("attention", &mut block.attention, attention);
        keep("linear2", &mut block.linear2, linears);
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
            assert!(lower(&mut blocks, Kernels::ALL).is_empty() && blocks == asked, "{mode}");
        }
    }

    #[test]
    fn a_layer_without_a_kernel_runs_in_bf16() {
        let mut blocks = Plan::built_in(&Mode::S, [1, 1]).unwrap().blocks;
        blocks.double[0].mlp_down = Precision::Bf16;
        let kernels = Kernels { attention: false, mixed: false, ..Kernels::ALL };
        let lowered = lower(&mut blocks, kernels);
        assert_eq!(lowered, ["attention", "mlp_up"]);
        assert_eq!(all_lowered(&Mode::S, &lowered), lowered);
        assert_eq!(blocks.double[0].out, Precision::Fp8);
        assert_eq!(blocks.single[0].linear1, Precision::Fp8);
        let mut blocks = Plan::built_in(&Mode::S, [1, 1]).unwrap().blocks;
        let kernels = Kernels { linears: false, attention: false, mixed: false };
        assert_eq!(lower(&mut blocks, kernels), PARTS);
    }

    #[test]
    fn a_repeated_picture_keeps_what_was_lowered() {
        let recorded = RecordedPlan {
            name: "S".into(),
            plan: serde_json::Value::Null,
            lowered: vec!["qkv".into(), "\u{1b}".into()],
            picture: "a.png".into(),
        };
        let mode = Mode::Recorded(recorded.into());
        assert_eq!(all_lowered(&mode, &["attention"]), ["attention", "qkv"]);
    }
}
