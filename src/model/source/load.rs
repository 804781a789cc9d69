//! From the files of a network to its weights.

use crate::error::Result;
use crate::model::config::ClipConfig;
use crate::model::config::FluxConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;
use crate::model::source::ModelFiles;
use crate::model::source::Weights;
use crate::model::weights::clip::ClipWeights;
use crate::model::weights::flux::FluxWeights;
use crate::model::weights::t5::T5Weights;
use crate::model::weights::tensor_source::Placement;
use crate::model::weights::vae::VaeWeights;

impl ModelFiles {
    /// Loads the transformer.
    ///
    /// # Errors
    /// Those of its config and of [`FluxWeights::load`].
    pub fn load_flux(&self, placement: impl Into<Placement>) -> Result<FluxWeights> {
        let placement = placement.into();
        if let Weights::Synthetic { seed } = self.transformer.weights {
            return FluxWeights::synthetic(&self.flux_config()?, placement, seed);
        }
        self.transformer.with(FluxConfig::read, FluxConfig::infer, |reader, config| {
            FluxWeights::load(reader, &config, placement.clone())
        })
    }

    /// Loads the VAE.
    ///
    /// # Errors
    /// Those of its config and of [`VaeWeights::load`].
    pub fn load_vae(&self, placement: impl Into<Placement>) -> Result<VaeWeights> {
        let placement = placement.into();
        if let Weights::Synthetic { seed } = self.vae.weights {
            return VaeWeights::synthetic(&self.vae_config()?, placement, seed);
        }
        self.vae.with(VaeConfig::read, VaeConfig::infer, |reader, config| {
            VaeWeights::load(reader, &config, placement.clone())
        })
    }

    /// Loads CLIP.
    ///
    /// # Errors
    /// Those of its config and of [`ClipWeights::load`].
    pub fn load_clip(&self, placement: impl Into<Placement>) -> Result<ClipWeights> {
        let placement = placement.into();
        if let Weights::Synthetic { seed } = self.text_encoder.weights {
            return ClipWeights::synthetic(&self.clip_config()?, placement, seed);
        }
        self.text_encoder.with(ClipConfig::read, ClipConfig::infer, |reader, config| {
            ClipWeights::load(reader, &config, placement.clone())
        })
    }

    /// Loads T5.
    ///
    /// # Errors
    /// Those of its config and of [`T5Weights::load`].
    pub fn load_t5(&self, placement: impl Into<Placement>) -> Result<T5Weights> {
        let placement = placement.into();
        if let Weights::Synthetic { seed } = self.text_encoder_2.weights {
            return T5Weights::synthetic(&self.t5_config()?, placement, seed);
        }
        self.text_encoder_2.with(T5Config::read, T5Config::infer, |reader, config| {
            T5Weights::load(reader, &config, placement.clone())
        })
    }
}
