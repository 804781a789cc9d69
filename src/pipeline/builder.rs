//! How an engine is made: where, in which precision, of which files.

use std::sync::Arc;
use std::time::Instant;

use crate::device::Cuda;
use crate::device::Device;
use crate::device::Faults;
use crate::elastic::Mode;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::model::plan::BlockPlans;
use crate::model::source::ModelSource;
use crate::model::weights::tensor_source::Placement;
use crate::pipeline::DType;
use crate::pipeline::DeviceChoice;
use crate::pipeline::Engine;
use crate::pipeline::Request;
use crate::pipeline::Settings;
use crate::pipeline::budget;
use crate::pipeline::budget::Budget;
use crate::pipeline::budget::Fit;
use crate::pipeline::budget::Model;
use crate::pipeline::caching::lists;
use crate::pipeline::encode::PromptCache;
use crate::pipeline::engine::milliseconds;
use crate::pipeline::load::Components;
use crate::pipeline::load::defaults;
use crate::pipeline::memory::Need;
use crate::pipeline::modes::LoadedMode;
use crate::pipeline::open::check_fit;
use crate::pipeline::open::check_max_vram;
use crate::pipeline::open::open;
use crate::pipeline::planning::offer;
use crate::pipeline::planning::plan;
use crate::pipeline::precision::Precision;
use crate::pipeline::session::Sessions;

/// How to build an [`Engine`].
#[derive(Debug, Clone, Default)]
pub struct EngineBuilder {
    source: ModelSource,
    device: DeviceChoice,
    dtype: DType,
    mode: Mode,
    more_modes: Vec<Mode>,
    planning: bool,
    portable: bool,
    max_vram: Option<usize>,
    t5_e4m3: bool,
    expected: Request,
    faults: Option<Arc<Faults>>,
}

impl EngineBuilder {
    /// `demo`, a folder, a single file, or a Hugging Face id.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.source.model = model.into();
        self
    }

    /// The model with parts replaced.
    #[must_use]
    pub fn source(mut self, source: ModelSource) -> Self {
        self.source = source;
        self
    }

    /// Where to compute.
    #[must_use]
    pub fn device(mut self, device: DeviceChoice) -> Self {
        self.device = device;
        self
    }

    /// The pipeline's dtype.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The elastic mode.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Modes that are loaded beside that of [`Self::mode`], for [`Engine::use_mode`].
    #[must_use]
    pub fn more_modes(mut self, modes: impl IntoIterator<Item = Mode>) -> Self {
        self.more_modes.extend(modes);
        self
    }

    /// Whether to load every form of every layer that [`Engine::make_plan`] may choose.
    #[must_use]
    pub fn planning(mut self, planning: bool) -> Self {
        self.planning = planning;
        self
    }

    /// Whether to compute with the kernels that every card runs, where there are better ones.
    #[must_use]
    pub fn portable(mut self, portable: bool) -> Self {
        self.portable = portable;
        self
    }

    /// The bytes of GPU memory that the engine may take in all, driver and kernels included; none is what
    /// is free. Where they do not hold all weights, some wait in host memory, and in modes with e4m3 T5
    /// is in e4m3 as well: [`Engine::notes`] tells what was chosen.
    #[must_use]
    pub fn max_vram(mut self, bytes: Option<usize>) -> Self {
        self.max_vram = bytes;
        self
    }

    /// Whether T5's linear layers compute in e4m3 whatever memory there is, as where little memory had
    /// drawn a picture that is repeated. On a device or for sizes without such kernels they do not;
    /// [`Engine::t5_dtype`] tells.
    #[must_use]
    pub fn t5_e4m3(mut self, t5_e4m3: bool) -> Self {
        self.t5_e4m3 = t5_e4m3;
        self
    }

    /// A picture like those to come: whether the GPU's memory holds model and picture is told before
    /// the model is loaded. Without this it is told for the model's default size.
    #[must_use]
    pub fn expecting(mut self, request: Request) -> Self {
        self.expected = request;
        self
    }

    /// Has allocations of the GPU fail, for tests of what comes of that.
    #[doc(hidden)]
    #[must_use]
    pub fn faults(mut self, faults: Arc<Faults>) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Finds and loads the model.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the GPU does not hold it, [`Error::Request`] when the model cannot
    /// do what is expected, or a limit of GPU memory is set for the CPU; [`Error::ModelNotFound`], [`Error::Weight`], [`Error::Config`], [`Error::Format`] or
    /// [`Error::Read`] for the model; [`Error::Device`] when the device is not there.
    pub fn build(self) -> Result<Engine> {
        let started = Instant::now();
        check_max_vram(self.max_vram, self.device)?;
        let (device, no_gpu) = open(self.device, self.dtype, self.faults)?;
        let precision = Precision::new(&device, self.dtype, &self.mode)?;
        if let Device::Cuda(cuda) = &device {
            cuda.set_round_like_diffusers(self.mode == Mode::Original);
            cuda.set_portable(self.portable);
        }
        let loading = match &device {
            Device::Cuda(cuda) => Some(cuda.load_modules_ahead()),
            Device::Cpu => None,
        };
        let files = self.source.resolve()?;
        let configs = files.configs()?;
        check_fit(&device, &files, &configs)?;
        let defaults = defaults(&device, &files, &configs)?;
        let expected = Settings::new(&self.expected, &defaults)?;
        let (mut modes, mut digest): (Vec<LoadedMode>, _) = (Vec::new(), None);
        for mode in [self.mode].into_iter().chain(self.more_modes) {
            if modes.iter().all(|loaded| loaded.mode != mode) {
                let (plan, lowered) = plan(&mode, &device, &files, &configs.flux, &mut digest)?;
                modes.push(LoadedMode { mode, plan, lowered });
            }
        }
        let mut plans: Vec<BlockPlans> =
            modes.iter().map(|mode| mode.plan.blocks.clone()).collect();
        if self.planning {
            plans.extend(offer(&device, &files, &configs.flux)?.plans(&configs.flux));
        }
        let t5_must_be_fp8 =
            self.t5_e4m3 && kernels_of_t5(&device) && budget::t5_fits_fp8(&configs);
        let mut fit = Fit::default();
        fit.residency.t5_fp8 = t5_must_be_fp8;
        if let Device::Cuda(cuda) = &device {
            let lists = lists(&expected, &defaults, precision.dtype)?;
            let picture =
                Need::of_picture(&configs.flux, &configs.t5, &configs.vae, &expected, &lists);
            let picture = match plans.iter().any(BlockPlans::has_fp8) {
                true => picture.and_fp8(&configs.flux, &expected),
                false => picture,
            };
            // One T5 serves all modes, and plans are measured against modes without e4m3.
            let fp8 = !self.planning && modes.iter().all(|mode| mode.plan.blocks.has_fp8());
            let t5_fp8 = fp8 && cuda.has_fp8() && budget::t5_fits_fp8(&configs);
            let dtype = precision.weights;
            let model = Model { configs: &configs, dtype, plans: &plans, t5_fp8, t5_must_be_fp8 };
            fit = fit_to(cuda, &model, picture, self.max_vram)?;
        }
        let placement = Placement { device, dtype: precision.weights, residency: fit.residency };
        let components =
            placement.device.lasting(|| Components::load(&files, configs, &plans, &placement))?;
        components.device.synchronize()?;
        if let Some(loading) = loading {
            loading.finish();
        }
        Ok(Engine {
            files,
            components,
            defaults,
            precision,
            dtype_asked: self.dtype,
            modes,
            active: 0,
            fit,
            max_vram: self.max_vram,
            prompts: PromptCache::default(),
            sessions: Sessions::default(),
            digests: None,
            no_gpu,
            load_ms: milliseconds(started),
        })
    }
}

/// Whether the device multiplies in e4m3.
fn kernels_of_t5(device: &Device) -> bool {
    match device {
        Device::Cpu => true,
        Device::Cuda(cuda) => cuda.has_fp8(),
    }
}

/// What of a model stays on a GPU, whose buffers are then held to what is left of a limit.
fn fit_to(cuda: &Cuda, model: &Model<'_>, picture: Need, max_vram: Option<usize>) -> Result<Fit> {
    let (context, free) = (cuda.context_bytes(), cuda.free_bytes()?);
    let budget = Budget { max_vram, context, free };
    let fit = budget::fit(model, picture, budget)?;
    if let Some(bytes) = budget.buffers() {
        cuda.set_limit(bytes);
    }
    Ok(fit)
}
