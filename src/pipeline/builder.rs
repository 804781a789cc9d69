//! How an engine is made: where, in which precision, of which files.

use std::time::Instant;

use crate::device::Device;
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
use crate::pipeline::caching::lists;
use crate::pipeline::encode::PromptCache;
use crate::pipeline::engine::LoadedMode;
use crate::pipeline::engine::milliseconds;
use crate::pipeline::load::Components;
use crate::pipeline::load::defaults;
use crate::pipeline::memory::Need;
use crate::pipeline::open::check_fit;
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
    expected: Request,
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

    /// A picture like those to come: whether the GPU's memory holds model and picture is told before
    /// the model is loaded. Without this it is told for the model's default size.
    #[must_use]
    pub fn expecting(mut self, request: Request) -> Self {
        self.expected = request;
        self
    }

    /// Finds and loads the model.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the GPU does not hold it, [`Error::Request`] when the model cannot
    /// do what is expected; [`Error::ModelNotFound`], [`Error::Weight`], [`Error::Config`], [`Error::Format`] or
    /// [`Error::Read`] for the model; [`Error::Device`] when the device is not there.
    pub fn build(self) -> Result<Engine> {
        let started = Instant::now();
        let (device, no_gpu) = open(self.device, self.dtype)?;
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
        let mut modes: Vec<LoadedMode> = Vec::new();
        for mode in [self.mode].into_iter().chain(self.more_modes) {
            if modes.iter().all(|loaded| loaded.mode != mode) {
                let (plan, lowered) = plan(&mode, &device, &files, &configs.flux)?;
                modes.push(LoadedMode { mode, plan, lowered });
            }
        }
        let mut plans: Vec<BlockPlans> =
            modes.iter().map(|mode| mode.plan.blocks.clone()).collect();
        if self.planning {
            plans.extend(offer(&device, &files, &configs.flux)?.plans(&configs.flux));
        }
        if let Device::Cuda(cuda) = &device {
            let weights = configs.weight_bytes(precision.weights, &plans)?;
            let lists = lists(&expected, &defaults, precision.dtype)?;
            let picture =
                Need::of_picture(&configs.flux, &configs.t5, &configs.vae, &expected, &lists);
            let picture = match plans.iter().any(BlockPlans::has_fp8) {
                true => picture.and_fp8(&configs.flux, &expected),
                false => picture,
            };
            picture.and_weights(weights.iter().sum()).check(cuda.free_bytes()?)?;
        }
        let placement = Placement { device, dtype: precision.weights };
        let components = Components::load(&files, configs, &plans, &placement)?;
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
            prompts: PromptCache::default(),
            sessions: Sessions::default(),
            digests: None,
            no_gpu,
            load_ms: milliseconds(started),
        })
    }
}
