//! The FLUX.1 transformer: packed latents in, velocity out.
//!
//! Spec flux 3; reference `FluxTransformer2DModel` of diffusers. Text and image tokens live in one
//! joint `[S, D]` stream, text first. What does not depend on the latents is computed once per
//! image ([`prepare`]): the text projection, the RoPE table and all modulation of all steps.

pub mod cached;
pub mod double_block;
pub mod modulation;
mod operand;
pub mod prepare;
pub mod rope;
pub mod single_block;
mod workspace;

use std::fmt;
use std::ops::Range;

use crate::device::Act;
use crate::device::Input;
use crate::device::Matrix;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::flux::cached::CachedList;
use crate::model::flux::cached::StepAction;
use crate::model::flux::modulation::StepModulation;
use crate::model::plan::BlockPlans;
use crate::model::weights::flux::FluxWeights;
use crate::ops::expect_shape;
use crate::ops::gemm::Activation;
use crate::ops::gemm::Difference;
use crate::ops::gemm::Segment;
use crate::ops::gemm::gemm;
use crate::ops::gemm::gemm_with_difference;
use crate::ops::gemm::whole;
use crate::ops::layernorm_modulate::ModulateSegment;
use crate::ops::layernorm_modulate::layernorm_modulate;

pub use modulation::BlockModulation;
pub use modulation::ModulationLayout;
pub use prepare::Prepared;
pub use workspace::Scratch;
pub use workspace::Workspace;
use workspace::writing;

/// What all blocks of a forward pass read.
struct Pass<'a> {
    weights: &'a FluxWeights,
    modulation: StepModulation<'a>,
    prepared: &'a Prepared,
    step: &'a Tensor<u32, 1>,
    seq: usize,
    plan: &'a BlockPlans,
    watch: Option<Watch<'a>>,
}

impl Pass<'_> {
    fn txt_len(&self) -> usize {
        self.prepared.txt.shape()[0]
    }

    /// Runs `blocks` on stream `at`, without touching stream `kept`, and says which stream holds the
    /// output. `effect` receives what they did to stream `kept`.
    fn run(
        &self,
        workspace: &mut Workspace,
        blocks: Range<usize>,
        mut at: usize,
        kept: Option<usize>,
        mut effect: Option<&mut Tensor<Act, 2>>,
    ) -> Result<usize> {
        let double = self.weights.double.len();
        for index in blocks.clone() {
            let next = Workspace::other(at, kept);
            let Workspace { streams, scratch } = &mut *workspace;
            let (stream, others) = writing(streams, next);
            let difference = match (kept, &mut effect) {
                (Some(kept), Some(effect)) if index + 1 == blocks.end => Some(Difference {
                    out: effect.matrix_mut(),
                    from: others.stream(kept).matrix(),
                }),
                _ => None,
            };
            let out = BlockOutput { stream, difference };
            let input = others.stream(at);
            match self.weights.double.get(index) {
                Some(weights) => {
                    let modulation = self.modulation.double(index);
                    let prepared = self.prepared;
                    double_block::forward(
                        out,
                        scratch,
                        input,
                        weights,
                        &modulation,
                        prepared,
                        &self.plan.double[index],
                    )?;
                }
                None => {
                    let weights = &self.weights.single[index - double];
                    let modulation = self.modulation.single(index - double);
                    let prepared = self.prepared;
                    let plan = &self.plan.single[index - double];
                    single_block::forward(
                        out, scratch, input, weights, modulation, prepared, plan,
                    )?;
                }
            }
            if let Some(Watch(watch)) = self.watch {
                watch(index, &workspace.scratch)?;
            }
            at = next;
        }
        Ok(at)
    }
}

/// Where a block writes.
#[derive(Debug)]
pub struct BlockOutput<'a> {
    /// `[S, D]`.
    pub stream: &'a mut Tensor<Act, 2>,
    /// What it has become since an earlier stream, if that is asked for.
    pub difference: Option<Difference<'a>>,
}

impl<'a> From<&'a mut Tensor<Act, 2>> for BlockOutput<'a> {
    fn from(stream: &'a mut Tensor<Act, 2>) -> Self {
        Self { stream, difference: None }
    }
}

impl BlockOutput<'_> {
    /// The last product of a block, which adds its effect to the stream.
    fn add(self, a: Input<'_>, residual: Matrix<'_, Act>, segments: &[Segment<'_>]) -> Result<()> {
        let out = self.stream.matrix_mut();
        match self.difference {
            Some(difference) => gemm_with_difference(out, difference, a, Some(residual), segments),
            None => gemm(out, a, Some(residual), segments, Activation::None),
        }
    }
}

/// A transformer as a plan runs it.
#[derive(Debug, Clone, Copy)]
pub struct Planned<'a> {
    /// Its weights, in all precisions of the plan.
    pub weights: &'a FluxWeights,
    /// What each block computes in.
    pub plan: &'a BlockPlans,
    /// Who looks at a block's buffers once it is done.
    pub watch: Option<Watch<'a>>,
}

impl<'a> Planned<'a> {
    /// Nobody looks on.
    #[must_use]
    pub fn new(weights: &'a FluxWeights, plan: &'a BlockPlans) -> Self {
        Self { weights, plan, watch: None }
    }
}

/// Is told a block's number, double ones first, and what it left in its buffers.
#[derive(Clone, Copy)]
pub struct Watch<'a>(pub &'a dyn Fn(usize, &Scratch) -> Result<()>);

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Watch")
    }
}

/// The cached block lists at one step; empty where every block is computed.
#[derive(Debug)]
pub struct CacheStep<'a> {
    /// One behind the other from the first block on.
    pub lists: &'a mut [CachedList],
    /// What each does.
    pub actions: &'a [StepAction],
}

impl CacheStep<'_> {
    /// Every block is computed.
    #[must_use]
    pub fn none() -> Self {
        Self { lists: &mut [], actions: &[] }
    }
}

/// `velocity [I, out_channels]` of the packed latents `[I, in_channels]` at the step that `step`
/// `[1]` counts, a row of `prepared.modulation`. Blocks that are in no list are computed, each as
/// `plan` says.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn forward(
    velocity: &mut Tensor<Act, 2>,
    workspace: &mut Workspace,
    cache: CacheStep<'_>,
    latents: Matrix<'_, Act>,
    Planned { weights, plan, watch }: Planned<'_>,
    prepared: &Prepared,
    step: &Tensor<u32, 1>,
) -> Result<()> {
    let planned = [plan.double.len(), plan.single.len()];
    expect_shape("flux", "plan", planned, [weights.double.len(), weights.single.len()])?;
    let modulation = ModulationLayout::new(&weights.config).at(&prepared.modulation, step);
    let [txt_len, _] = prepared.txt.shape();
    let [seq, _] = workspace.streams[0].shape();
    let pass = Pass { weights, modulation, prepared, step, seq, plan, watch };

    let (mut txt, img) = workspace.streams[0].matrix_mut().split_at_row(txt_len);
    txt.copy_from(prepared.txt.matrix())?;
    let segments = whole(&weights.x_embedder, seq - txt_len);
    gemm(img, latents, None, &segments, Activation::None)?;

    let mut at = 0;
    let CacheStep { lists, actions } = cache;
    expect_shape("flux", "actions", [actions.len()], [lists.len()])?;
    for (list, &action) in lists.iter_mut().zip(actions) {
        at = list.run(&pass, workspace, at, action)?;
    }
    let rest = lists.last().map_or(0, |list| list.blocks.blocks.end);
    at = pass.run(workspace, rest..weights.double.len() + weights.single.len(), at, None, None)?;

    // The final layer sees the image only; the text has done its work.
    let (shift, scale) = modulation.last();
    let rows = 0..seq - txt_len;
    let segments = [ModulateSegment { rows: rows.clone(), shift, scale }];
    let Workspace { streams, scratch } = workspace;
    layernorm_modulate(
        scratch.normed.act.matrix_mut().rows(rows.clone()),
        streams[at].matrix().rows(txt_len..seq),
        &segments,
    )?;
    let normed = scratch.normed.act.matrix().rows(rows);
    let segments = whole(&weights.proj_out, seq - txt_len);
    gemm(velocity.matrix_mut(), normed, None, &segments, Activation::None)
}
