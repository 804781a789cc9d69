//! Which columns of the modulation table belong to which block.
//!
//! Spec flux 3.3 step 6: every modulation linear depends on the conditioning vector alone, so one
//! matrix product gives all of them for all steps. The table's columns are, for each double block,
//! img then txt (shift, scale, gate of attention, then of the MLP), for each single block (shift,
//! scale, gate), and the final layer's (shift, scale).

use crate::device::Act;
use crate::device::Tensor;
use crate::model::config::FluxConfig;
use crate::ops::ModulationVector;

/// The sizes that give each vector its first column.
#[derive(Debug, Clone, Copy)]
pub struct ModulationLayout {
    hidden: usize,
    double: usize,
    single: usize,
}

/// The layout over the table of one image, at the step that the counter names.
#[derive(Debug, Clone, Copy)]
pub struct StepModulation<'a> {
    layout: ModulationLayout,
    table: &'a Tensor<Act, 2>,
    step: &'a Tensor<u32, 1>,
}

/// One sub-layer's shift, scale and gate, `[D]` each.
#[derive(Debug, Clone, Copy)]
pub struct BlockModulation<'a> {
    /// Added after the scale.
    pub shift: ModulationVector<'a>,
    /// `1 + scale` multiplies the normed stream.
    pub scale: ModulationVector<'a>,
    /// Multiplies what is added to the stream.
    pub gate: ModulationVector<'a>,
}

/// A double block's modulation: two sub-layers of two streams.
#[derive(Debug, Clone, Copy)]
pub struct DoubleModulation<'a> {
    /// Attention, txt stream.
    pub txt_attention: BlockModulation<'a>,
    /// MLP, txt stream.
    pub txt_mlp: BlockModulation<'a>,
    /// Attention, img stream.
    pub img_attention: BlockModulation<'a>,
    /// MLP, img stream.
    pub img_mlp: BlockModulation<'a>,
}

impl ModulationLayout {
    /// The layout of a model.
    #[must_use]
    pub fn new(config: &FluxConfig) -> Self {
        let (double, single) = (config.num_layers, config.num_single_layers);
        Self { hidden: config.hidden_size(), double, single }
    }

    /// Columns of the table.
    #[must_use]
    pub fn columns(&self) -> usize {
        (12 * self.double + 3 * self.single + 2) * self.hidden
    }

    /// The layout over a table.
    #[must_use]
    pub fn at<'a>(self, table: &'a Tensor<Act, 2>, step: &'a Tensor<u32, 1>) -> StepModulation<'a> {
        StepModulation { layout: self, table, step }
    }
}

impl<'a> StepModulation<'a> {
    fn vector(&self, index: usize) -> ModulationVector<'a> {
        let column = index * self.layout.hidden;
        ModulationVector { table: self.table, step: self.step, column }
    }

    fn block(&self, index: usize) -> BlockModulation<'a> {
        BlockModulation {
            shift: self.vector(index),
            scale: self.vector(index + 1),
            gate: self.vector(index + 2),
        }
    }

    /// Of double block `index`.
    #[must_use]
    pub fn double(&self, index: usize) -> DoubleModulation<'a> {
        let first = 12 * index;
        DoubleModulation {
            img_attention: self.block(first),
            img_mlp: self.block(first + 3),
            txt_attention: self.block(first + 6),
            txt_mlp: self.block(first + 9),
        }
    }

    /// Of single block `index`.
    #[must_use]
    pub fn single(&self, index: usize) -> BlockModulation<'a> {
        self.block(12 * self.layout.double + 3 * index)
    }

    /// Shift and scale of the final layer.
    #[must_use]
    pub fn last(&self) -> (ModulationVector<'a>, ModulationVector<'a>) {
        let first = 12 * self.layout.double + 3 * self.layout.single;
        (self.vector(first), self.vector(first + 1))
    }
}
