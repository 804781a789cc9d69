//! The engine: a loaded model that turns requests into images.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use crate::cache::Preset;
use crate::device::Tensor;
use crate::elastic::Mode;
use crate::error::Result;
use crate::pipeline::DType;
use crate::pipeline::Defaults;
use crate::pipeline::DeviceChoice;
use crate::pipeline::Event;
use crate::pipeline::Request;
use crate::pipeline::RgbImage;
use crate::pipeline::Settings;
use crate::pipeline::Timings;

/// Files that replace a component of the model.
#[derive(Debug, Clone, Default)]
pub struct ComponentFiles {
    /// Transformer weights.
    pub transformer: Option<PathBuf>,
    /// VAE weights.
    pub vae: Option<PathBuf>,
    /// CLIP weights.
    pub text_encoder: Option<PathBuf>,
    /// T5 weights.
    pub text_encoder_2: Option<PathBuf>,
}

/// How to build an [`Engine`].
#[derive(Debug, Clone, Default)]
pub struct EngineBuilder {
    model: String,
    components: ComponentFiles,
    device: DeviceChoice,
    dtype: DType,
    mode: Mode,
    cache: Preset,
}

impl EngineBuilder {
    /// `demo`, a folder, a single file, or a Hugging Face id.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Files that replace components of the model.
    #[must_use]
    pub fn components(mut self, components: ComponentFiles) -> Self {
        self.components = components;
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
    /// [`crate::Error::ModelNotFound`], [`crate::Error::Weight`], [`crate::Error::Config`],
    /// [`crate::Error::Format`] or [`crate::Error::Read`] for the model;
    /// [`crate::Error::Device`] when the device is not there.
    pub fn build(self) -> Result<Engine> {
        let _ = self;
        unimplemented!()
    }
}

/// A loaded model.
#[derive(Debug)]
pub struct Engine {
    defaults: Defaults,
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
        EngineBuilder { model: "demo".into(), ..EngineBuilder::default() }
    }

    /// The model's defaults.
    #[must_use]
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// What was asked for and does not act yet, a sentence each; empty when all of it acts.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The device, dtype, mode and cache that this engine runs with, as metadata records them.
    #[must_use]
    pub fn device_name(&self) -> String {
        "cpu".into()
    }

    /// The dtype that `auto` became.
    #[must_use]
    pub fn dtype(&self) -> DType {
        DType::F32
    }

    /// File and SHA-256 of every weight file; computed at the first call.
    ///
    /// # Errors
    /// [`crate::Error::Read`] when a file has become unreadable.
    pub fn weight_digests(&mut self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    /// Milliseconds that loading took.
    #[must_use]
    pub fn load_ms(&self) -> f64 {
        0.0
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
    /// [`crate::Error::Request`] for a value out of range, [`crate::Error::Numeric`] when the
    /// latents become NaN or infinite, [`crate::Error::Cancelled`] when the observer said stop.
    pub fn generate_with(
        &mut self,
        request: &Request,
        observer: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let settings = Settings::new(request, &self.defaults)?;
        let _ = (settings, observer, Instant::now());
        unimplemented!()
    }
}
