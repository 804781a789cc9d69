//! From the files of a network to its weights.

use crate::error::Result;
use crate::files::File;
use crate::model::config::ClipConfig;
use crate::model::config::FluxConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;
use crate::model::source::ComponentFiles;
use crate::model::source::ModelFiles;
use crate::model::source::Weights;
use crate::model::weights::clip::ClipWeights;
use crate::model::weights::flux::FluxWeights;
use crate::model::weights::reader::Reader;
use crate::model::weights::synthetic::Synthetic;
use crate::model::weights::t5::T5Weights;
use crate::model::weights::tensor_source::Network;
use crate::model::weights::tensor_source::Placement;
use crate::model::weights::vae::VaeWeights;

/// The network in `part`, from its files or from its seed.
fn load<W: Network>(
    part: &ComponentFiles,
    placement: Placement,
    read: fn(&File) -> Result<W::Config>,
    infer: fn(&Reader<'_>) -> Result<W::Config>,
) -> Result<W> {
    if let Weights::Synthetic { seed } = part.weights {
        return W::read(&mut Synthetic::new(placement, seed), &part.config(read, infer)?);
    }
    part.with(read, infer, |reader, config| {
        reader.checked(placement.clone(), |reader| W::read(reader, &config))
    })
}

impl ModelFiles {
    /// Loads the transformer.
    ///
    /// # Errors
    /// Those of its config and of [`FluxWeights::load`].
    pub fn load_flux(&self, placement: impl Into<Placement>) -> Result<FluxWeights> {
        load(&self.transformer, placement.into(), FluxConfig::read, FluxConfig::infer)
    }

    /// Loads the VAE.
    ///
    /// # Errors
    /// Those of its config and of [`VaeWeights::load`].
    pub fn load_vae(&self, placement: impl Into<Placement>) -> Result<VaeWeights> {
        load(&self.vae, placement.into(), VaeConfig::read, VaeConfig::infer)
    }

    /// Loads CLIP.
    ///
    /// # Errors
    /// Those of its config and of [`ClipWeights::load`].
    pub fn load_clip(&self, placement: impl Into<Placement>) -> Result<ClipWeights> {
        load(&self.text_encoder, placement.into(), ClipConfig::read, ClipConfig::infer)
    }

    /// Loads T5.
    ///
    /// # Errors
    /// Those of its config and of [`T5Weights::load`].
    pub fn load_t5(&self, placement: impl Into<Placement>) -> Result<T5Weights> {
        load(&self.text_encoder_2, placement.into(), T5Config::read, T5Config::infer)
    }
}
