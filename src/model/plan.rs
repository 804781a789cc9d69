//! In which precision and at which width each block of the transformer computes.

use serde::Deserialize;
use serde::Serialize;

/// What a linear layer or an attention computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The pipeline's dtype: bf16 on a GPU, what `--dtype` says on the CPU.
    #[default]
    Bf16,
    /// Operands in e4m3 with scales, sums in f32.
    Fp8,
}

impl Precision {
    /// Whether it is [`Precision::Fp8`].
    #[must_use]
    pub fn is_fp8(self) -> bool {
        self == Self::Fp8
    }
}

/// How much of a block is computed: the most important heads and neurons, which come first in a
/// prepared model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Width {
    /// Heads of the attention; none means all.
    pub heads: Option<usize>,
    /// Neurons of the MLP's hidden layer; none means all.
    pub mlp: Option<usize>,
}

/// Of a double block; both streams alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DoublePlan {
    /// Input of q, k, v.
    pub qkv: Precision,
    /// q, k, v and probabilities.
    pub attention: Precision,
    /// Input of the attention's output layer.
    pub out: Precision,
    /// Input of the MLP's first layer.
    pub mlp_up: Precision,
    /// Input of the MLP's second layer.
    pub mlp_down: Precision,
    /// How much of it.
    pub width: Width,
}

/// Of a single block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinglePlan {
    /// Input of q, k, v and the MLP's first layer.
    pub linear1: Precision,
    /// q, k, v and probabilities.
    pub attention: Precision,
    /// Input of the layer over attention and MLP.
    pub linear2: Precision,
    /// How much of it.
    pub width: Width,
}

impl DoublePlan {
    /// Every linear layer in `precision`.
    #[must_use]
    pub fn linears(precision: Precision) -> Self {
        Self {
            qkv: precision,
            out: precision,
            mlp_up: precision,
            mlp_down: precision,
            ..Self::default()
        }
    }
}

impl SinglePlan {
    /// Both linear layers in `precision`.
    #[must_use]
    pub fn linears(precision: Precision) -> Self {
        Self { linear1: precision, linear2: precision, ..Self::default() }
    }
}

/// Every block of a transformer, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPlans {
    /// Double blocks.
    pub double: Vec<DoublePlan>,
    /// Single blocks.
    pub single: Vec<SinglePlan>,
}

impl BlockPlans {
    /// All of `[double, single]` blocks in the pipeline's dtype and at full width.
    #[must_use]
    pub fn plain([double, single]: [usize; 2]) -> Self {
        Self {
            double: vec![DoublePlan::default(); double],
            single: vec![SinglePlan::default(); single],
        }
    }

    /// Whether any attention computes in fp8.
    #[must_use]
    pub fn has_fp8_attention(&self) -> bool {
        self.double.iter().any(|plan| plan.attention.is_fp8())
            || self.single.iter().any(|plan| plan.attention.is_fp8())
    }

    /// Whether any linear layer computes in fp8.
    #[must_use]
    pub fn has_fp8(&self) -> bool {
        let double = |plan: &DoublePlan| [plan.qkv, plan.out, plan.mlp_up, plan.mlp_down];
        let single = |plan: &SinglePlan| [plan.linear1, plan.linear2];
        self.double.iter().flat_map(double).any(Precision::is_fp8)
            || self.single.iter().flat_map(single).any(Precision::is_fp8)
    }
}
