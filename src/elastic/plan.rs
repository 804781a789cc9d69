//! A plan for a transformer, and those of the modes.

use serde::Deserialize;
use serde::Serialize;

use crate::elastic::Mode;
use crate::model::plan::BlockPlans;
use crate::model::plan::DoublePlan;
use crate::model::plan::Precision;
use crate::model::plan::SinglePlan;

/// What measuring a plan against `original` gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Relative L2 error of the velocity.
    pub loss: f64,
    /// Mean PSNR of pictures, in dB.
    pub psnr: f64,
    /// Time of a step by that of mode XL.
    pub time: f64,
    /// Mean SSIM of pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssim: Option<f64>,
    /// Of the captions that pictures of `original` were found to carry, the share that is still found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<f64>,
}

/// A plan for a transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it is called: a mode, or a file's own name.
    pub name: String,
    /// What each block computes in.
    pub blocks: BlockPlans,
    /// SHA-256 of the transformer that it was made for; none for any of these sizes.
    pub model: Option<String>,
    /// What it costs and brings, if that was measured.
    pub measured: Option<Measured>,
}

impl Plan {
    /// The full-width plan of a mode, for a model without one of its own; none for a plan
    /// file and a picture's plan.
    ///
    /// `L` keeps the attention's side of every block and the first and last blocks in bf16, where an
    /// error passes through all others or straight into the velocity.
    #[must_use]
    pub fn built_in(mode: &Mode, blocks: [usize; 2]) -> Option<Self> {
        let fp8 = Precision::Fp8;
        let mut plan = Self {
            name: mode.to_string(),
            blocks: BlockPlans::plain(blocks),
            model: None,
            measured: None,
        };
        let BlockPlans { double, single } = &mut plan.blocks;
        match mode {
            Mode::Original | Mode::Xl => {}
            Mode::L => {
                for block in double.iter_mut().skip(1) {
                    (block.mlp_up, block.mlp_down) = (fp8, fp8);
                }
                for block in single.iter_mut().rev().skip(1) {
                    block.linear2 = fp8;
                }
            }
            Mode::M | Mode::S => {
                double.fill(DoublePlan::linears(fp8));
                single.fill(SinglePlan::linears(fp8));
            }
            Mode::Plan(_) | Mode::Recorded(_) => return None,
        }
        if *mode == Mode::S {
            double.iter_mut().for_each(|block| block.attention = fp8);
            single.iter_mut().for_each(|block| block.attention = fp8);
        }
        Some(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_go_from_bf16_to_fp8_everywhere() {
        let plan = |mode| Plan::built_in(&mode, [3, 4]).unwrap().blocks;
        assert_eq!(plan(Mode::Xl).double, vec![DoublePlan::default(); 3]);
        assert_eq!(plan(Mode::Original).single, plan(Mode::Xl).single);
        let (l, m, s) = (plan(Mode::L), plan(Mode::M), plan(Mode::S));
        assert_eq!((l.double[0], l.single[3]), (DoublePlan::default(), SinglePlan::default()));
        assert_eq!((l.double[1].mlp_down, l.double[1].qkv), (Precision::Fp8, Precision::Bf16));
        assert_eq!(m.double[0], DoublePlan::linears(Precision::Fp8));
        assert_eq!(
            (m.single[3].attention, s.single[3].attention),
            (Precision::Bf16, Precision::Fp8)
        );
        assert_eq!(s.double[0].qkv, Precision::Fp8);
        assert_eq!(Plan::built_in(&Mode::Plan("x.json".into()), [1, 1]), None);
    }

    #[test]
    fn a_model_without_single_blocks_has_a_plan() {
        assert!(Plan::built_in(&Mode::L, [0, 0]).is_some());
    }
}
