//! In which precision and at which width each block of the transformer computes.

mod sizes;

use serde::Deserialize;
use serde::Serialize;

use crate::device::kept::Kept;

pub use sizes::BlockSizes;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Width {
    /// Heads of the attention; none means all.
    pub heads: Option<usize>,
    /// Neurons of the MLP's hidden layer; none means all.
    pub mlp: Option<usize>,
}

/// A linear layer in a precision and at a width.
#[derive(Debug, Clone, Copy)]
pub struct LayerForm {
    /// Of its input and its weight.
    pub precision: Precision,
    /// Output channels.
    pub rows: Kept,
    /// Input channels.
    pub columns: Kept,
}

impl LayerForm {
    /// All of an `[N, K]` layer.
    #[must_use]
    pub fn whole(precision: Precision, shape: [usize; 2]) -> Self {
        let [rows, columns] = shape.map(Kept::all);
        Self { precision, rows, columns }
    }

    /// Whether the two are the same numbers, however they are told.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.precision == other.precision
            && self.rows.all_ranges() == other.rows.all_ranges()
            && self.columns.all_ranges() == other.columns.all_ranges()
    }
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

    /// `[3 D, D]`, in a block that is `full` where nothing is left out.
    #[must_use]
    pub fn qkv_form(&self, full: BlockSizes) -> LayerForm {
        let sizes = full.narrowed(self.width);
        let rows = sizes.heads_then(3, 0);
        LayerForm { precision: self.qkv, rows, columns: Kept::all(sizes.hidden) }
    }

    /// `[D, D]`.
    #[must_use]
    pub fn out_form(&self, full: BlockSizes) -> LayerForm {
        let sizes = full.narrowed(self.width);
        let columns = sizes.heads_then(1, 0);
        LayerForm { precision: self.out, rows: Kept::all(sizes.hidden), columns }
    }

    /// `[M, D]`.
    #[must_use]
    pub fn mlp_up_form(&self, full: BlockSizes) -> LayerForm {
        let BlockSizes { mlp, hidden, .. } = full.narrowed(self.width);
        LayerForm::whole(self.mlp_up, [mlp, hidden])
    }

    /// `[D, M]`.
    #[must_use]
    pub fn mlp_down_form(&self, full: BlockSizes) -> LayerForm {
        let BlockSizes { mlp, hidden, .. } = full.narrowed(self.width);
        LayerForm::whole(self.mlp_down, [hidden, mlp])
    }
}

impl SinglePlan {
    /// Both linear layers in `precision`.
    #[must_use]
    pub fn linears(precision: Precision) -> Self {
        Self { linear1: precision, linear2: precision, ..Self::default() }
    }

    /// `[3 D + M, D]`, in a block that is `full` where nothing is left out.
    #[must_use]
    pub fn linear1_form(&self, full: BlockSizes) -> LayerForm {
        let sizes = full.narrowed(self.width);
        let rows = sizes.heads_then(3, sizes.mlp);
        LayerForm { precision: self.linear1, rows, columns: Kept::all(sizes.hidden) }
    }

    /// `[D, D + M]`.
    #[must_use]
    pub fn linear2_form(&self, full: BlockSizes) -> LayerForm {
        let sizes = full.narrowed(self.width);
        let columns = sizes.heads_then(1, sizes.mlp);
        LayerForm { precision: self.linear2, rows: Kept::all(sizes.hidden), columns }
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

    /// The widths of the blocks, without repetition.
    #[must_use]
    pub fn widths(&self) -> Vec<Width> {
        let double = self.double.iter().map(|plan| plan.width);
        let mut widths = Vec::new();
        for width in double.chain(self.single.iter().map(|plan| plan.width)) {
            if !widths.contains(&width) {
                widths.push(width);
            }
        }
        widths
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
