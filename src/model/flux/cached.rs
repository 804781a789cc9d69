//! Block lists of which the middle can be skipped: the DualCache around the blocks.
//!
//! Spec dualcache 3. A list runs its first blocks at every step; what they did to the stream decides
//! whether the middle runs too, or the effect that it last had is added instead.

use std::ops::Range;

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::model::flux::Pass;
use crate::model::flux::Workspace;
use crate::model::flux::writing;
use crate::ops::add_scaled::add_scaled;
use crate::ops::branch::branch;
use crate::ops::residual_diff::Decider;
use crate::ops::residual_diff::residual_diff;
use crate::ops::taylor::TaylorSeries;
use crate::ops::taylor::taylor_forecast;
use crate::ops::taylor::taylor_update;

const OP: &str = "cached list";

/// Whose residual is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// The image tokens'.
    Image,
    /// All tokens'.
    Joint,
}

/// A list: which blocks, and what it keeps for hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedBlocks {
    /// Places among all blocks, double blocks first.
    pub blocks: Range<usize>,
    /// Blocks at the start that every step computes (Fn).
    pub first: usize,
    /// Blocks at the end that every step computes (Bn).
    pub last: usize,
    /// Whose residual is compared.
    pub compared: Compared,
    /// Whether any step compares.
    pub compares: bool,
    /// Whether any step may be a hit.
    pub skips: bool,
    /// Whether what follows reads the text rows of the list's output.
    pub text_is_read: bool,
    /// 0 reuses the last effect.
    pub taylor_order: usize,
}

/// What a list does in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepAction {
    /// All blocks.
    Compute,
    /// All blocks; the effect is kept.
    Store,
    /// The device compares and decides between the two.
    Decide,
    /// The kept effect instead of the middle.
    Hit,
}

/// A list with its memory.
#[derive(Debug)]
pub struct CachedList {
    /// Which blocks.
    pub blocks: CachedBlocks,
    /// Decisions and their log.
    pub decider: Decider,
    kept: Kept,
}

/// What computed steps leave for hits.
#[derive(Debug)]
struct Kept {
    /// `[compared rows, D]`: the residual of the first blocks; none if nothing is ever compared.
    reference: Option<Tensor<Act, 2>>,
    effect: Effect,
}

/// What the middle did to the stream.
#[derive(Debug)]
enum Effect {
    /// `[S, D]`: at the last computed step.
    Last(Tensor<Act, 2>),
    /// At the last few.
    Series(TaylorSeries),
}

/// The streams of a list at work.
#[derive(Debug, Clone, Copy)]
struct Streams {
    /// Of the list's input.
    input: usize,
    /// After the first blocks.
    fresh: usize,
    /// After the middle, computed or not.
    target: usize,
}

impl CachedList {
    /// Memory for `[S, D]` streams of `txt_len` text rows, over up to `steps` steps.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub fn new(
        device: &Device,
        blocks: CachedBlocks,
        [seq, hidden]: [usize; 2],
        txt_len: usize,
        steps: usize,
    ) -> Result<Self> {
        let rows = compared_rows(&blocks, txt_len, seq).len();
        let reference = blocks.compares.then(|| Tensor::empty(device, [rows, hidden]));
        let kept = if blocks.skips { seq } else { 0 };
        let effect = match blocks.taylor_order {
            0 => Effect::Last(Tensor::empty(device, [kept, hidden])?),
            order => Effect::Series(TaylorSeries::new(device, order, [kept, hidden])?),
        };
        let kept = Kept { reference: reference.transpose()?, effect };
        Ok(Self { blocks, decider: Decider::new(device, steps)?, kept })
    }

    /// Before a picture: forgets what the last one left.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn reset(&mut self) -> Result<()> {
        match &mut self.kept.effect {
            Effect::Last(_) => Ok(()),
            Effect::Series(series) => series.reset(),
        }
    }

    /// Runs the list on stream `input`, and says which stream holds its output.
    pub(super) fn run(
        &mut self,
        pass: &Pass<'_>,
        workspace: &mut Workspace,
        input: usize,
        action: StepAction,
    ) -> Result<usize> {
        let Self { blocks, decider, kept } = self;
        let middle = blocks.blocks.start + blocks.first..blocks.blocks.end - blocks.last;
        let (first, last) = (blocks.blocks.start..middle.start, middle.end..blocks.blocks.end);
        let fresh = pass.run(workspace, first, input, Some(input), None)?;
        let target = middle.clone().fold(fresh, |at, _| Workspace::other(at, Some(fresh)));
        let streams = Streams { input, fresh, target };
        let blocks = &*blocks;
        let mut state = (&mut *workspace, kept);
        let hit = |(workspace, kept): &mut (&mut Workspace, &mut Kept)| {
            kept.apply(pass, workspace, blocks, streams)
        };
        let store = |(workspace, kept): &mut (&mut Workspace, &mut Kept)| {
            kept.compute(pass, workspace, blocks, middle.clone(), streams)
        };
        match action {
            StepAction::Compute => {
                pass.run(state.0, middle.clone(), fresh, Some(fresh), None)?;
            }
            StepAction::Store => store(&mut state)?,
            StepAction::Hit => hit(&mut state)?,
            StepAction::Decide => {
                let reference = state.1.reference.as_ref().ok_or_else(|| Error::Shape {
                    op: OP,
                    tensor: "reference",
                    expected: "a list that compares".into(),
                    actual: "one that does not".into(),
                })?;
                let rows = compared_rows(blocks, pass.txt_len(), pass.seq);
                let [before, after] = [input, fresh]
                    .map(|stream| state.0.streams[stream].matrix().rows(rows.clone()));
                residual_diff(decider, reference.matrix(), before, after, pass.step)?;
                branch(&decider.decision, &mut state, hit, store)?;
            }
        }
        pass.run(workspace, last, target, None, None)
    }
}

impl Kept {
    /// A hit: the stream after the middle is the one before it with the kept effect.
    fn apply(
        &self,
        pass: &Pass<'_>,
        workspace: &mut Workspace,
        blocks: &CachedBlocks,
        Streams { fresh, target, .. }: Streams,
    ) -> Result<()> {
        let first = if blocks.text_is_read { 0 } else { pass.txt_len() };
        let rows = first..pass.seq;
        let (out, others) = writing(&mut workspace.streams, target);
        let out = out.matrix_mut().rows(rows.clone());
        let before = others.stream(fresh).matrix().rows(rows.clone());
        match &self.effect {
            Effect::Last(effect) => add_scaled(out, before, effect.matrix().rows(rows), 1.0),
            Effect::Series(series) => taylor_forecast(out, before, series, first, pass.step),
        }
    }

    /// A computed step: the middle runs, and what the next hit needs is kept.
    fn compute(
        &mut self,
        pass: &Pass<'_>,
        workspace: &mut Workspace,
        blocks: &CachedBlocks,
        middle: Range<usize>,
        Streams { input, fresh, target }: Streams,
    ) -> Result<()> {
        if let Some(reference) = &mut self.reference {
            let rows = compared_rows(blocks, pass.txt_len(), pass.seq);
            let [before, after] =
                [input, fresh].map(|stream| workspace.streams[stream].matrix().rows(rows.clone()));
            add_scaled(reference.matrix_mut(), after, before, -1.0)?;
        }
        match &mut self.effect {
            Effect::Last(effect) => {
                pass.run(workspace, middle, fresh, Some(fresh), Some(effect))?;
                Ok(())
            }
            Effect::Series(series) => {
                pass.run(workspace, middle, fresh, Some(fresh), None)?;
                let [before, after] =
                    [fresh, target].map(|stream| workspace.streams[stream].matrix());
                taylor_update(series, before, after, pass.step)
            }
        }
    }
}

fn compared_rows(blocks: &CachedBlocks, txt_len: usize, seq: usize) -> Range<usize> {
    match blocks.compared {
        Compared::Image => txt_len..seq,
        Compared::Joint => 0..seq,
    }
}
