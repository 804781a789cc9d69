//! The engine: a loaded model that turns requests into images.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::cache::Preset;
use crate::device::Act;
use crate::device::Tensor;
use crate::elastic::Mode;
use crate::error::Error;
use crate::error::Result;
use crate::model::flux::Prepared;
use crate::model::flux::prepare::Conditioning;
use crate::model::flux::prepare::prepare;
use crate::model::source::ModelFiles;
use crate::model::source::ModelSource;
use crate::model::vae;
use crate::model::weights::dtype::WeightDtype;
use crate::ops::euler_step::LatentRounding;
use crate::ops::noise::NoiseDtype;
use crate::ops::noise::NoiseSource;
use crate::ops::noise::noise;
use crate::ops::pack::pack;
use crate::ops::pack::unpack;
use crate::ops::to_rgb8::PixelRounding;
use crate::ops::to_rgb8::to_rgb8;
use crate::pipeline::DType;
use crate::pipeline::Defaults;
use crate::pipeline::DeviceChoice;
use crate::pipeline::Event;
use crate::pipeline::Phase;
use crate::pipeline::Request;
use crate::pipeline::RgbImage;
use crate::pipeline::Rng;
use crate::pipeline::Settings;
use crate::pipeline::Timings;
use crate::pipeline::denoise::denoise;
use crate::pipeline::encode::Encoded;
use crate::pipeline::encode::PromptCache;
use crate::pipeline::load::Components;
use crate::pipeline::schedule::Schedule;
use crate::pipeline::schedule::TimeRounding;
use crate::pipeline::schedule::model_guidance;

/// How to build an [`Engine`].
#[derive(Debug, Clone, Default)]
pub struct EngineBuilder {
    source: ModelSource,
    device: DeviceChoice,
    dtype: DType,
    mode: Mode,
    cache: Preset,
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

    /// The step cache.
    #[must_use]
    pub fn cache(mut self, cache: Preset) -> Self {
        self.cache = cache;
        self
    }

    /// Finds and loads the model.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`], [`Error::Weight`], [`Error::Config`], [`Error::Format`] or
    /// [`Error::Read`] for the model; [`Error::Device`] when the device is not there.
    pub fn build(self) -> Result<Engine> {
        if let DeviceChoice::Cuda(index) = self.device {
            let reason = format!(
                "cuda:{index} was asked for, but this build computes on the CPU only; \
                 leave out --device or say --device cpu"
            );
            return Err(Error::Device { reason });
        }
        let started = Instant::now();
        let dtype = if self.dtype == DType::Bf16 { DType::Bf16 } else { DType::F32 };
        let precision = Precision::of(dtype);
        let files = self.source.resolve()?;
        let components = Components::load(&files, &precision.weights.into())?;
        let defaults = components.defaults(&files)?;
        Ok(Engine {
            files,
            components,
            defaults,
            dtype,
            precision,
            mode: self.mode,
            cache: self.cache,
            prompts: PromptCache::default(),
            digests: None,
            load_ms: milliseconds(started),
        })
    }
}

/// What the pipeline's dtype means for each of its parts.
#[derive(Debug, Clone, Copy)]
struct Precision {
    weights: WeightDtype,
    noise: NoiseDtype,
    times: TimeRounding,
    latents: LatentRounding,
}

impl Precision {
    fn of(dtype: DType) -> Self {
        match dtype {
            DType::Bf16 => Self {
                weights: WeightDtype::Bf16,
                noise: NoiseDtype::Bf16,
                times: TimeRounding::DiffusersBf16,
                latents: LatentRounding::DiffusersBf16,
            },
            DType::F32 | DType::Auto => Self {
                weights: WeightDtype::F32,
                noise: NoiseDtype::F32,
                times: TimeRounding::F32,
                latents: LatentRounding::F32,
            },
        }
    }
}

/// A loaded model.
#[derive(Debug)]
pub struct Engine {
    files: ModelFiles,
    components: Components,
    defaults: Defaults,
    dtype: DType,
    precision: Precision,
    mode: Mode,
    cache: Preset,
    prompts: PromptCache,
    digests: Option<Vec<(String, String)>>,
    load_ms: f64,
}

/// An image and how it was made.
#[derive(Debug)]
pub struct Generated {
    /// The picture.
    pub image: RgbImage,
    /// `[tokens, 64]`: the final packed latents.
    pub latents: Tensor<f32, 2>,
    /// What was asked for, defaults filled in.
    pub settings: Settings,
    /// How long it took.
    pub timings: Timings,
    /// Tokens of the prompt that did not fit: CLIP's, T5's.
    pub dropped_tokens: [usize; 2],
}

impl Engine {
    /// A builder with the demo model, all else automatic.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default().model("demo")
    }

    /// The model's defaults.
    #[must_use]
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// What was asked for and does not act yet, a sentence each; empty when all of it acts.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.mode {
            Mode::Xl => {}
            Mode::Original => notes.push(
                "mode original: the CPU computes in f32; diffusers' bf16 roundings inside the \
                 networks do not act yet"
                    .to_owned(),
            ),
            Mode::L | Mode::M | Mode::S | Mode::Plan(_) => notes.push(format!(
                "mode {}: precision and width plans do not act yet; the model runs at full width \
                 in {}",
                self.mode, self.dtype
            )),
        }
        if self.cache != Preset::None {
            notes.push(format!(
                "cache {}: the step cache does not act yet; every step is computed in full",
                self.cache
            ));
        }
        notes
    }

    /// What computes, as metadata records it.
    #[must_use]
    pub fn device_name(&self) -> String {
        self.components.device.name().to_owned()
    }

    /// The dtype that `auto` became.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// File and SHA-256 of every weight file; computed at the first call.
    ///
    /// # Errors
    /// [`Error::Read`] when a file has become unreadable.
    pub fn weight_digests(&mut self) -> Result<&[(String, String)]> {
        if self.digests.is_none() {
            let digests = self.files.digests()?;
            let pairs = digests.into_iter().map(|digest| (digest.file, digest.sha256));
            self.digests = Some(pairs.collect());
        }
        Ok(self.digests.as_deref().unwrap_or_default())
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
    /// picture become NaN or infinite, [`Error::Cancelled`] when the observer said stop.
    pub fn generate_with(
        &mut self,
        request: &Request,
        observer: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let settings = Settings::new(request, &self.defaults)?;
        let mut timings = Timings::default();

        let clock = begin(Phase::Encode, observer)?;
        let encoded = self.prompts.encode(&self.components, &settings)?;
        timings.encode_ms = milliseconds(clock);

        let clock = begin(Phase::Prepare, observer)?;
        let [rows, columns] = settings.grid();
        let scheduler = &self.components.scheduler;
        let schedule = Schedule::new(scheduler, settings.steps, rows * columns)?;
        let prepared = self.prepare(&settings, &encoded, &schedule)?;
        let mut latents = self.initial_latents(request, &settings)?;
        timings.prepare_ms = milliseconds(clock);

        let clock = begin(Phase::Denoise, observer)?;
        let sigmas = Tensor::from_host([schedule.sigmas.len()], schedule.sigmas);
        let rounding = self.precision.latents;
        denoise(&mut latents, &self.components.flux, &prepared, &sigmas, rounding, observer)?;
        timings.denoise_ms = milliseconds(clock);

        let clock = begin(Phase::Decode, observer)?;
        let image = self.decode(&latents, [rows, columns], settings.steps)?;
        timings.decode_ms = milliseconds(clock);
        let latents = Tensor::from_host(latents.shape(), latents.host().to_vec());
        Ok(Generated { image, latents, settings, timings, dropped_tokens: encoded.dropped })
    }

    /// What does not depend on the latents.
    fn prepare(
        &self,
        settings: &Settings,
        encoded: &Encoded,
        schedule: &Schedule,
    ) -> Result<Prepared> {
        let rounding = self.precision.times;
        prepare(
            &self.components.device,
            &self.components.flux,
            &Conditioning {
                txt: encoded.txt.matrix(),
                pooled: encoded.pooled.matrix(),
                timesteps: &schedule.model_times(rounding),
                guidance: settings.guidance.map(|guidance| model_guidance(guidance, rounding)),
                grid: settings.grid(),
            },
        )
    }

    /// The request's own latents, or noise drawn as `[1, C, h, w]` and packed.
    fn initial_latents(&self, request: &Request, settings: &Settings) -> Result<Tensor<Act, 2>> {
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
            return Ok(Tensor::from_host([tokens, found], latents.host().to_vec()));
        }
        let source = self.noise_source(settings.rng)?;
        let mut drawn = Tensor::zeros([1, channels, 2 * rows, 2 * columns]);
        noise(&mut drawn, source, settings.seed)?;
        let mut packed = Tensor::zeros([rows * columns, 4 * channels]);
        pack(&mut packed, &drawn.reshape([channels, 2 * rows, 2 * columns]))?;
        Ok(packed)
    }

    /// Whose noise, in which dtype.
    fn noise_source(&self, rng: Rng) -> Result<NoiseSource> {
        let dtype = self.precision.noise;
        match (rng, dtype) {
            (Rng::TorchCuda { grid }, _) => Ok(NoiseSource::TorchCuda { grid, dtype }),
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

    /// Latents to pixels; `steps` is for the message.
    fn decode(
        &self,
        latents: &Tensor<Act, 2>,
        [rows, columns]: [usize; 2],
        steps: usize,
    ) -> Result<RgbImage> {
        let vae = &self.components.vae;
        let mut z = Tensor::zeros([2 * rows, 2 * columns, vae.config.latent_channels]);
        unpack(&mut z, latents, vae.config.scaling_factor, vae.config.shift_factor)?;
        let image = vae::decode(vae, &z)?;
        if !image.host().iter().all(|value| value.is_finite()) {
            return Err(Error::Numeric { what: "the decoded picture", step: steps });
        }
        let mut pixels = Tensor::zeros(image.shape());
        to_rgb8(&mut pixels, &image, PixelRounding::F32)?;
        Ok(RgbImage::from_tensor(&pixels))
    }
}

/// Tells the observer that a phase begins, and starts its clock.
fn begin(phase: Phase, observer: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Instant> {
    match observer(Event::Phase(phase)) {
        ControlFlow::Continue(()) => Ok(Instant::now()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
