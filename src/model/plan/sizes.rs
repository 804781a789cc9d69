//! Of how many heads and neurons a block of some width is made.

use crate::device::kept::Kept;
use crate::model::config::FluxConfig;
use crate::model::plan::Width;

/// What a block of some width is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    /// Heads of the attention.
    pub heads: usize,
    /// Columns of them all.
    pub attention: usize,
    /// Neurons of the MLP's hidden layer.
    pub mlp: usize,
    /// D: columns of the stream, and of all heads at full width.
    pub hidden: usize,
}

impl BlockSizes {
    /// Of a whole block in a transformer of that config.
    #[must_use]
    pub fn full(config: &FluxConfig) -> Self {
        let hidden = config.hidden_size();
        Self {
            heads: config.num_attention_heads,
            attention: hidden,
            mlp: config.mlp_size(),
            hidden,
        }
    }

    /// Of a block of that width; of a whole one alone.
    #[must_use]
    pub fn narrowed(&self, width: Width) -> Self {
        let heads = width.heads.unwrap_or(self.heads);
        let attention = heads * (self.hidden / self.heads);
        Self { heads, attention, mlp: width.mlp.unwrap_or(self.mlp), ..*self }
    }

    /// The first heads of each of `parts` in a row, then the MLP's first neurons.
    pub(super) fn heads_then(&self, parts: usize, rest: usize) -> Kept {
        Kept { parts, of: self.hidden, first: self.attention, rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_keeps_whole_heads_and_first_neurons() {
        let full = BlockSizes { heads: 3, attention: 192, mlp: 768, hidden: 192 };
        assert_eq!(full.narrowed(Width::default()), full);
        let sizes = full.narrowed(Width { heads: Some(2), mlp: Some(384) });
        assert_eq!((sizes.heads, sizes.attention, sizes.mlp, sizes.hidden), (2, 128, 384, 192));
        let rows = sizes.heads_then(3, sizes.mlp).all_ranges();
        assert_eq!(rows, [0..128, 192..320, 384..512, 576..960]);
    }
}
