//! The activations of a forward pass: three streams, of which a block reads one and writes another.

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::config::FluxConfig;
use crate::model::flux::operand::AttentionMlp;
use crate::model::flux::operand::Operand;
use crate::model::flux::operand::Qkvs;
use crate::model::plan::BlockPlans;
use crate::model::plan::BlockSizes;

/// The activations of one forward pass, allocated once per image size.
#[derive(Debug)]
pub struct Workspace {
    /// `[S, D]` each. A block reads one and writes another; the third is for what must stay: the
    /// cache compares and adds to what the blocks before have left.
    pub streams: [Tensor<Act, 2>; 3],
    /// What a block needs between its two ends.
    pub scratch: Scratch,
}

/// Buffers that live within one block.
#[derive(Debug)]
pub struct Scratch {
    /// Of a block that leaves nothing out.
    pub sizes: BlockSizes,
    /// `[S, D]`: a double block's stream after attention.
    pub mid: Tensor<Act, 2>,
    /// `[S, D]`: modulated input of a linear layer.
    pub normed: Operand,
    /// `[S, 3, H, Dh]`.
    pub qkvs: Qkvs,
    /// `[S, D + M]`: attention output, then MLP hidden layer, as linear2 reads them.
    pub attention_mlp: AttentionMlp,
}

/// The streams that are not being written.
pub(super) struct Others<'a> {
    before: &'a [Tensor<Act, 2>],
    after: &'a [Tensor<Act, 2>],
}

impl Others<'_> {
    pub(super) fn stream(&self, index: usize) -> &Tensor<Act, 2> {
        let written = self.before.len();
        if index < written { &self.before[index] } else { &self.after[index - written - 1] }
    }
}

impl Workspace {
    /// Buffers for `seq` joint tokens, in the precisions of `plan`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn new(
        device: &Device,
        config: &FluxConfig,
        seq: usize,
        plan: &BlockPlans,
    ) -> Result<Self> {
        let fp8 = plan.has_fp8();
        let hidden = config.hidden_size();
        let sizes = BlockSizes::full(config);
        let stream = || Tensor::empty(device, [seq, hidden]);
        Ok(Self {
            streams: [stream()?, stream()?, stream()?],
            scratch: Scratch {
                sizes,
                mid: stream()?,
                normed: Operand::new(device, [seq, hidden], fp8)?,
                qkvs: Qkvs::new(device, seq, sizes, plan)?,
                attention_mlp: AttentionMlp::new(device, seq, [hidden, config.mlp_size()], fp8)?,
            },
        })
    }

    /// The stream that comes after `at`, when `kept` is to stay.
    pub(super) fn other(at: usize, kept: Option<usize>) -> usize {
        (0..3).find(|&index| index != at && Some(index) != kept).unwrap_or(at)
    }
}

/// Stream `out` to write, and the others to read.
pub(super) fn writing(
    streams: &mut [Tensor<Act, 2>; 3],
    out: usize,
) -> (&mut Tensor<Act, 2>, Others<'_>) {
    let (before, rest) = streams.split_at_mut(out);
    let (out, after) = rest.split_at_mut(1);
    (&mut out[0], Others { before, after })
}
