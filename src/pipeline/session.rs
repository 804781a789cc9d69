//! What images of one size share: memory of the steps, and on CUDA the recorded step.

use std::collections::VecDeque;

use crate::cache::ListSchedule;
use crate::device::Act;
use crate::device::Device;
use crate::device::Graph;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::flux::Planned;
use crate::model::flux::Prepared;
use crate::model::flux::Workspace;
use crate::model::flux::cached::CachedBlocks;
use crate::model::flux::cached::CachedList;
use crate::model::flux::cached::StepAction;
use crate::model::flux::prepare::Conditioning;
use crate::model::flux::prepare::prepare;
use crate::model::plan::BlockPlans;
use crate::model::weights::flux::FluxWeights;
use crate::pipeline::Settings;
use crate::pipeline::encode::Encoded;
use crate::pipeline::memory::Need;
use crate::pipeline::schedule::Schedule;
use crate::pipeline::schedule::TimeRounding;
use crate::pipeline::schedule::model_guidance;

/// Sizes and caches whose memory is kept: enough to go round the three caches of a size.
const KEPT: usize = 3;

/// What decides the shapes, and what a recorded step does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SessionKey {
    /// Rows and columns of image tokens, text tokens, steps.
    sizes: [usize; 4],
    /// The cached block lists.
    lists: Vec<CachedBlocks>,
    /// What each block computes in.
    plan: BlockPlans,
    /// Whether it rounds as diffusers does.
    original: bool,
}

impl SessionKey {
    pub(crate) fn new(
        settings: &Settings,
        txt_len: usize,
        lists: &[ListSchedule],
        plan: &BlockPlans,
        original: bool,
    ) -> Self {
        let [rows, columns] = settings.grid();
        let lists = lists.iter().map(|list| list.blocks.clone()).collect();
        let sizes = [rows, columns, txt_len, settings.steps];
        Self { sizes, lists, plan: plan.clone(), original }
    }
}

/// Memory for images of one size, at fixed addresses: a recorded step holds them.
#[derive(Debug)]
pub(crate) struct Session {
    key: SessionKey,
    pub(crate) prepared: Prepared,
    pub(crate) workspace: Workspace,
    /// `[I, in_channels]`.
    pub(crate) latents: Tensor<Act, 2>,
    /// `[I, out_channels]`.
    pub(crate) velocity: Tensor<Act, 2>,
    /// `[steps + 1]`.
    pub(crate) sigmas: Tensor<f32, 1>,
    /// `[1]`: the step that comes next.
    pub(crate) step: Tensor<u32, 1>,
    /// The cached block lists.
    pub(crate) lists: Vec<CachedList>,
    /// `[steps, 4]`: when each step began and ended.
    pub(crate) stamps: Tensor<u32, 2>,
    /// One step by what the lists do in it, recorded at the first image that needs it.
    pub(crate) graphs: Vec<(Vec<StepAction>, Graph)>,
    /// Whether the last picture was decoded in tiles; none before the first.
    pub(crate) decoded: Option<bool>,
}

impl Session {
    pub(crate) fn new(device: &Device, transformer: Planned<'_>, key: SessionKey) -> Result<Self> {
        let Planned { weights, plan, .. } = transformer;
        let config = &weights.config;
        let [rows, columns, txt_len, steps] = key.sizes;
        let img_len = rows * columns;
        let streams = [txt_len + img_len, config.hidden_size()];
        let list = |blocks: &CachedBlocks| {
            CachedList::new(device, blocks.clone(), streams, txt_len, steps)
        };
        let lists = key.lists.iter().map(list).collect::<Result<_>>()?;
        Ok(Self {
            key,
            prepared: Prepared::new(device, config, txt_len, [rows, columns], steps)?,
            workspace: Workspace::new(device, config, txt_len + img_len, plan)?,
            latents: Tensor::empty(device, [img_len, config.in_channels])?,
            velocity: Tensor::empty(device, [img_len, config.out_channels()])?,
            sigmas: Tensor::empty(device, [steps + 1])?,
            step: Tensor::empty(device, [1])?,
            lists,
            stamps: Tensor::empty(device, [steps, 4])?,
            graphs: Vec::new(),
            decoded: None,
        })
    }
}

impl Session {
    /// Before a picture: its constants and the times of its steps.
    ///
    /// # Errors
    /// As [`prepare`].
    pub(crate) fn begin(
        &mut self,
        flux: &FluxWeights,
        encoded: &Encoded,
        settings: &Settings,
        schedule: &Schedule,
        times: TimeRounding,
    ) -> Result<()> {
        let conditioning = Conditioning {
            txt: encoded.txt.matrix(),
            pooled: encoded.pooled.matrix(),
            timesteps: &schedule.model_times(times),
            guidance: settings.guidance.map(|guidance| model_guidance(guidance, times)),
        };
        prepare(&mut self.prepared, flux, &conditioning)?;
        let sigmas = Tensor::from_host([schedule.sigmas.len()], schedule.sigmas.clone());
        self.sigmas.copy_from_host(&sigmas)
    }

    /// Before a picture: the first step comes next, and nothing is left of the last picture.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub(crate) fn reset(&mut self, lists: &[ListSchedule]) -> Result<()> {
        self.step.copy_from_host(&Tensor::zeros([1]))?;
        self.stamps.copy_from_host(&Tensor::zeros(self.stamps.shape()))?;
        for (list, ListSchedule { limits, replay, .. }) in self.lists.iter_mut().zip(lists) {
            list.reset()?;
            list.decider.reset(limits, replay)?;
        }
        Ok(())
    }
}

/// The sessions of the last few sizes, latest first.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    kept: VecDeque<Session>,
}

impl Sessions {
    /// Makes sure that the GPU holds a picture before any memory is taken for it; memory of other
    /// sizes is given up if that is what it takes.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub(crate) fn make_room(
        &mut self,
        device: &Device,
        key: &SessionKey,
        settings: &Settings,
        need: Need,
    ) -> Result<()> {
        let Device::Cuda(cuda) = device else { return Ok(()) };
        let same = |session: &Session| session.key == *key;
        let kept = self.kept.iter().find(|session| same(session));
        if kept.is_some_and(|session| session.decoded == Some(settings.vae_tiling)) {
            // Such a picture was made: all that it takes is there.
            return Ok(());
        }
        let need = if kept.is_some() { need.without_session() } else { need };
        if need.check(cuda.free_bytes()?).is_ok() {
            return Ok(());
        }
        self.kept.retain(same);
        need.check(cuda.free_bytes()?)
    }

    /// The session of that key, made now if there is none.
    pub(crate) fn get(
        &mut self,
        device: &Device,
        transformer: Planned<'_>,
        key: SessionKey,
    ) -> Result<&mut Session> {
        let found = self.kept.iter().position(|session| session.key == key);
        let session = match found.and_then(|index| self.kept.remove(index)) {
            Some(session) => session,
            None => {
                self.kept.truncate(KEPT - 1);
                device.lasting(|| Session::new(device, transformer, key))?
            }
        };
        self.kept.push_front(session);
        Ok(&mut self.kept[0])
    }
}
