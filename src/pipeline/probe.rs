//! What the transformer predicts on the way to a picture, and what its blocks hold there: calibration and
//! plans are made of it.

use crate::device::Act;
use crate::device::Tensor;
use crate::elastic::Mode;
use crate::error::Result;
use crate::model::flux;
use crate::model::flux::CacheStep;
use crate::model::flux::Planned;
use crate::model::flux::Prepared;
use crate::model::flux::Watch;
use crate::model::flux::Workspace;
use crate::model::plan::BlockPlans;
use crate::pipeline::Engine;
use crate::pipeline::Request;
use crate::pipeline::Settings;
use crate::pipeline::denoise::step;
use crate::pipeline::schedule::Schedule;
use crate::pipeline::session::Session;
use crate::pipeline::session::SessionKey;

/// A picture's constants, and its latents at some of its steps.
#[derive(Debug)]
pub(crate) struct Probe {
    prepared: Prepared,
    /// Steps, and packed latents before them.
    latents: Vec<(u32, Tensor<Act, 2>)>,
}

impl Probe {
    /// Of text and picture.
    pub(super) fn tokens(&self) -> usize {
        self.prepared.rope.shape()[0]
    }
}

impl Engine {
    /// Runs a request's steps in the active mode, and keeps the latents before each of `steps`. `watch` looks at the
    /// blocks of those steps, and is told the number of text tokens.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub(crate) fn probe(
        &mut self,
        request: &Request,
        steps: &[usize],
        watch: &dyn Fn(usize, usize, &flux::Scratch) -> Result<()>,
    ) -> Result<Probe> {
        let settings = Settings::new(request, &self.defaults)?;
        let original = *self.mode() == Mode::Original;
        let encoded = self.prompts.encode(&self.components, &settings, original)?;
        let initial = self.initial_latents(request, &settings)?;
        let [rows, columns] = settings.grid();
        let schedule = Schedule::new(&self.components.scheduler, settings.steps, rows * columns)?;
        let (device, weights) = (&self.components.device, &self.components.flux);
        let plan = &self.active().plan.blocks;
        let [txt_len, _] = encoded.txt.shape();
        let key = SessionKey::new(&settings, txt_len, &[], plan, false);
        let mut session = Session::new(device, Planned::new(weights, plan), key)?;
        session.begin(weights, &encoded, &settings, &schedule, self.precision.times)?;
        session.latents.matrix_mut().copy_from(initial.matrix())?;
        session.reset(&[])?;
        let mut latents = Vec::new();
        let looks = |block: usize, scratch: &flux::Scratch| watch(block, txt_len, scratch);
        for (index, counted) in (0..settings.steps).zip(0_u32..) {
            let mut transformer = Planned::new(weights, plan);
            if steps.contains(&index) {
                latents.push((counted, session.latents.to_host()?));
                transformer.watch = Some(Watch(&looks));
            }
            step(&mut session, transformer, self.precision.latents, &[])?;
        }
        Ok(Probe { prepared: session.prepared, latents })
    }

    /// The velocities that `plan` predicts at the probe's steps, every `stride`-th of them, packed.
    ///
    /// # Errors
    /// Those of the forward pass.
    pub(crate) fn velocities(
        &self,
        probe: &Probe,
        plan: &BlockPlans,
        stride: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let (device, weights) = (&self.components.device, &self.components.flux);
        let config = &weights.config;
        let [txt_len, _] = probe.prepared.txt.shape();
        let img_len = probe.latents.first().map_or(0, |(_, latents)| latents.shape()[0]);
        let mut workspace = Workspace::new(device, config, txt_len + img_len, plan)?;
        let mut velocity = Tensor::empty(device, [img_len, config.out_channels()])?;
        let mut found = Vec::new();
        for (index, latents) in probe.latents.iter().step_by(stride) {
            let step = Tensor::from_host([1], vec![*index]).to_device(device)?;
            let latents = latents.clone().to_device(device)?;
            flux::forward(
                &mut velocity,
                &mut workspace,
                CacheStep::none(),
                latents.matrix(),
                Planned::new(weights, plan),
                &probe.prepared,
                &step,
            )?;
            found.push(velocity.to_host()?.host().to_vec());
        }
        Ok(found)
    }
}
