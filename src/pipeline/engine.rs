//! The engine: a loaded model that turns requests into images.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::cache::CacheLog;
use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::device::Tier;
use crate::device::operand::FP8_CARDS;
use crate::elastic::Mode;
use crate::error::Error;
use crate::error::Result;
use crate::model::flux::Planned;
use crate::model::source::ModelFiles;
use crate::ops::noise::NoiseDtype;
use crate::ops::noise::NoiseSource;
use crate::ops::noise::noise;
use crate::ops::pack::pack;
use crate::ops::timestamp;
use crate::pipeline::DType;
use crate::pipeline::Defaults;
use crate::pipeline::EngineBuilder;
use crate::pipeline::Event;
use crate::pipeline::Phase;
use crate::pipeline::Request;
use crate::pipeline::RgbImage;
use crate::pipeline::Rng;
use crate::pipeline::Settings;
use crate::pipeline::Timings;
use crate::pipeline::budget::Fit;
use crate::pipeline::caching::actions;
use crate::pipeline::caching::cache_log;
use crate::pipeline::caching::lists;
use crate::pipeline::decode::decode;
use crate::pipeline::denoise::Run;
use crate::pipeline::denoise::denoise;
use crate::pipeline::encode::PromptCache;
use crate::pipeline::load::Components;
use crate::pipeline::memory::Need;
use crate::pipeline::modes::LoadedMode;
use crate::pipeline::precision::Precision;
use crate::pipeline::preview::Preview;
use crate::pipeline::schedule::Schedule;
use crate::pipeline::session::SessionKey;
use crate::pipeline::session::Sessions;
use crate::pipeline::tiling::Tiling;

/// A loaded model.
#[derive(Debug)]
pub struct Engine {
    pub(super) files: ModelFiles,
    pub(super) components: Components,
    pub(super) defaults: Defaults,
    pub(super) precision: Precision,
    /// What `--dtype` said.
    pub(super) dtype_asked: DType,
    pub(super) modes: Vec<LoadedMode>,
    /// Which of them makes the pictures.
    pub(super) active: usize,
    /// What of the weights stays on the GPU.
    pub(super) fit: Fit,
    pub(super) max_vram: Option<usize>,
    pub(super) prompts: PromptCache,
    pub(super) sessions: Sessions,
    pub(super) digests: Option<Vec<(String, String)>>,
    /// Why `auto` did not take the GPU.
    pub(super) no_gpu: Option<String>,
    pub(super) load_ms: f64,
}

/// An image and how it was made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Generated {
    /// The picture.
    pub image: RgbImage,
    /// `[tokens, 64]`: the final packed latents.
    pub latents: Tensor<f32, 2>,
    /// What was asked for, defaults filled in.
    pub settings: Settings,
    /// The mode that drew it.
    pub mode: Mode,
    /// How long it took.
    pub timings: Timings,
    /// Tokens of the prompt that did not fit: CLIP's, T5's.
    pub dropped_tokens: [usize; 2],
    /// What was skipped; none without a cache.
    pub cache: Option<CacheLog>,
    /// Nanoseconds at which each step began and ended, on its device's clock.
    pub step_times: Vec<[u64; 2]>,
}

impl Engine {
    /// A builder with the demo model, all else automatic.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The model's defaults.
    #[must_use]
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// What a user should know of how this engine computes, a sentence each: what was asked for and does not
    /// act, and which weights wait in host memory.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.no_gpu.iter().cloned().collect();
        notes.extend(self.fit.note());
        if self.max_vram.is_some() && matches!(self.components.device, Device::Cpu) {
            notes.push("--max-vram is about GPUs; this computes on the CPU".to_owned());
        }
        let LoadedMode { mode, lowered, .. } = self.active();
        if *mode == Mode::Original && matches!(self.components.device, Device::Cpu) {
            notes.push(
                "mode original: the CPU computes in f32; diffusers' bf16 roundings inside the \
                 networks do not act yet"
                    .to_owned(),
            );
        }
        if !lowered.is_empty() {
            notes.push(format!(
                "mode {}: {} in {}: there are no other kernels for that on {} yet; {FP8_CARDS}, for \
                 attention heads of 128",
                mode,
                lowered.join(", "),
                self.precision.dtype,
                self.components.device.name()
            ));
        }
        notes
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.components.device
    }

    /// What computes, as metadata records it.
    #[must_use]
    pub fn device_name(&self) -> String {
        self.components.device.name().to_owned()
    }

    /// Which kernels of the GPU run where an op has several; none on the CPU.
    #[must_use]
    pub fn tier(&self) -> Option<&'static str> {
        match &self.components.device {
            Device::Cpu => None,
            Device::Cuda(cuda) => match cuda.tier() {
                Tier::Sm90 => Some("sm90"),
                Tier::Portable | Tier::Sm89 => Some("portable"),
            },
        }
    }

    /// What T5's linear layers compute in where that is not [`Self::dtype`], which changes pictures:
    /// `e4m3`, to save memory.
    #[must_use]
    pub fn t5_dtype(&self) -> Option<&'static str> {
        self.fit.residency.t5_fp8.then_some("e4m3")
    }

    /// The dtype that `auto` became.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.precision.dtype
    }

    /// File and SHA-256 of every weight file; computed at the first call.
    ///
    /// # Errors
    /// [`Error::Read`] when a file has become unreadable, [`Error::Format`] when it was cut meanwhile.
    pub fn weight_digests(&mut self) -> Result<&[(String, String)]> {
        if self.digests.is_none() {
            let digests = self.files.digests()?;
            let pairs = digests.into_iter().map(|digest| (digest.file, digest.sha256));
            self.digests = Some(pairs.collect());
        }
        Ok(self.digests.as_deref().unwrap_or_default())
    }

    /// Has the next picture's prompt encoded, also if the one before had the same: for times.
    pub fn forget_prompts(&mut self) {
        self.prompts = PromptCache::default();
    }

    /// Milliseconds that loading took.
    #[must_use]
    pub fn load_ms(&self) -> f64 {
        self.load_ms
    }

    /// Makes one image.
    ///
    /// # Errors
    /// As [`Engine::generate_with`].
    pub fn generate(&mut self, request: &Request) -> Result<Generated> {
        self.generate_with(request, &mut |_| ControlFlow::Continue(()))
    }

    /// Makes one image, reporting to `observer`, which may stop it after any event.
    ///
    /// # Errors
    /// [`Error::Request`] for a value out of range, [`Error::Numeric`] when the latents or the
    /// picture become NaN or infinite, [`Error::Cancelled`] when the observer said stop,
    /// [`Error::OutOfMemory`] when the GPU does not hold a picture of that size, [`Error::Cuda`] when the driver
    /// refuses, [`Error::Format`] when a tokenizer fails.
    pub fn generate_with(
        &mut self,
        request: &Request,
        observer: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generated> {
        self.components.device.check_alive()?;
        let settings = Settings::new(request, &self.defaults)?;
        let mut timings = Timings::default();
        let Components { device, flux, t5, vae, scheduler, .. } = &self.components;
        let tiling = settings.vae_tiling.then(|| Tiling::new(&vae.config)).transpose()?;
        let lists = lists(&settings, &self.defaults, self.precision.dtype)?;
        let need = Need::of_picture(&flux.config, &t5.config, &vae.config, &settings, &lists);
        let plan = &self.modes[self.active].plan.blocks;
        let need = match plan.has_fp8() {
            true => need.and_fp8(&flux.config, &settings),
            false => need,
        };
        let need = need.and_fetched(self.fit.fetched);
        let original = self.modes[self.active].mode == Mode::Original;
        let key = |txt_len| SessionKey::new(&settings, txt_len, &lists, plan, original);
        self.sessions.make_room(device, &key(settings.max_sequence_length), &settings, need)?;

        let clock = begin(Phase::Encode, observer)?;
        let encoded = self.prompts.encode(&self.components, &settings, original)?;
        device.synchronize()?;
        timings.encode_ms = milliseconds(clock);

        let clock = begin(Phase::Prepare, observer)?;
        let [rows, columns] = settings.grid();
        let schedule = Schedule::new(scheduler, settings.steps, rows * columns)?;
        let latents = self.initial_latents(request, &settings)?;
        let [txt_len, _] = encoded.txt.shape();
        let transformer = Planned::new(flux, plan);
        let session = self.sessions.get(device, transformer, key(txt_len))?;
        session.begin(flux, &encoded, &settings, &schedule, self.precision.times)?;
        session.latents.matrix_mut().copy_from(latents.matrix())?;
        session.reset(&lists)?;
        device.synchronize()?;
        timings.prepare_ms = milliseconds(clock);

        let clock = begin(Phase::Denoise, observer)?;
        let actions = actions(&lists, settings.steps);
        let size = [2 * rows, 2 * columns, vae.config.latent_channels];
        let rounding = self.precision.pixels;
        let sigmas = &schedule.sigmas;
        let preview = request.preview_every.filter(|&every| every > 0);
        let preview = preview.map(|every| Preview { every, vae, size, tiling, rounding, sigmas });
        let run = Run { transformer, rounding: self.precision.latents, actions: &actions, preview };
        denoise(session, &run, observer)?;
        timings.denoise_ms = milliseconds(clock);

        let clock = begin(Phase::Decode, observer)?;
        let latents = session.latents.to_host()?;
        let step_times = timestamp::read(&session.stamps)?;
        let cache = cache_log(session, &lists, &step_times)?;
        if !latents.host().iter().all(|value| value.is_finite()) {
            return Err(Error::Numeric { what: "latents", step: settings.steps });
        }
        let image = decode(vae, &session.latents, size, tiling, rounding, settings.steps)?;
        session.decoded = Some(settings.vae_tiling);
        timings.decode_ms = milliseconds(clock);
        let latents = Tensor::from_host(latents.shape(), latents.host().to_vec());
        let dropped_tokens = encoded.dropped;
        let mode = self.mode().clone();
        Ok(Generated { image, latents, settings, mode, timings, dropped_tokens, cache, step_times })
    }

    /// The request's own latents, or noise drawn as `[1, C, h, w]` and packed.
    pub(super) fn initial_latents(
        &self,
        request: &Request,
        settings: &Settings,
    ) -> Result<Tensor<Act, 2>> {
        let device = &self.components.device;
        let channels = self.components.vae.config.latent_channels;
        let [rows, columns] = settings.grid();
        if let Some(latents) = &request.latents {
            let [tokens, found] = latents.shape();
            if found != 4 * channels {
                let reason = format!(
                    "expected {} channels a token, found [{tokens}, {found}]",
                    4 * channels
                );
                return Err(Error::Request { field: "latents", reason });
            }
            let latents = Tensor::from_host([tokens, found], latents.to_host()?.host().to_vec());
            return latents.to_device(device);
        }
        let source = self.noise_source(settings.rng)?;
        let mut drawn = Tensor::empty(device, [1, channels, 2 * rows, 2 * columns])?;
        noise(&mut drawn, source, settings.seed)?;
        let mut packed = Tensor::empty(device, [rows * columns, 4 * channels])?;
        pack(&mut packed, &drawn.reshape([channels, 2 * rows, 2 * columns]))?;
        Ok(packed)
    }

    /// Whose noise, in which dtype.
    fn noise_source(&self, rng: Rng) -> Result<NoiseSource> {
        let dtype = self.precision.noise;
        match (rng, dtype) {
            (Rng::TorchCuda { grid }, _) => {
                let grid = grid.unwrap_or(self.defaults.noise_grid);
                Ok(NoiseSource::TorchCuda { grid, dtype })
            }
            (Rng::TorchCpu, _) => Ok(NoiseSource::TorchCpu { dtype }),
            (Rng::TorchCpuLegacy, NoiseDtype::Bf16) => Ok(NoiseSource::TorchCpuLegacy),
            (Rng::TorchCpuLegacy, NoiseDtype::F32) => Err(Error::Request {
                field: "rng",
                reason: "torch-cpu-legacy is how bf16 noise was drawn: expected --dtype bf16, \
                         found f32, whose noise torch-cpu draws as every version of PyTorch"
                    .into(),
            }),
        }
    }
}

/// Tells the observer that a phase begins, and starts its clock.
fn begin(phase: Phase, observer: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Instant> {
    match observer(Event::Phase(phase)) {
        ControlFlow::Continue(()) => Ok(Instant::now()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}

pub(super) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
