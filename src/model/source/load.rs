//! From the files of a network to its weights.

use crate::error::Result;
use crate::files::File;
use crate::model::config::ClipConfig;
use crate::model::config::FluxConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;
use crate::model::plan::BlockPlans;
use crate::model::source::ComponentFiles;
use crate::model::source::ModelFiles;
use crate::model::source::Weights;
use crate::model::weights::clip::ClipWeights;
use crate::model::weights::elastic::FluxLayout;
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
    read: impl Fn(&File) -> Result<W::Config>,
    infer: impl Fn(&Reader<'_>) -> Result<W::Config>,
) -> Result<W> {
    if let Weights::Synthetic { seed } = part.weights {
        return W::read(&mut Synthetic::new(placement, seed), &part.config(read, infer)?);
    }
    part.with(read, infer, |reader, config| {
        reader.checked(placement.clone(), |reader| W::read(reader, &config))
    })
}

/// Checks the files of the network in `part` as far as their headers go.
fn check<W: Network>(
    part: &ComponentFiles,
    placement: &Placement,
    read: impl Fn(&File) -> Result<W::Config>,
    infer: impl Fn(&Reader<'_>) -> Result<W::Config>,
) -> Result<()> {
    if let Weights::Synthetic { .. } = part.weights {
        return Ok(());
    }
    part.with(read, infer, |reader, config| {
        reader.check(placement.clone(), |reader| W::read(reader, &config))
    })
}

impl ModelFiles {
    /// Checks all networks' files by their headers, so that what is wrong with one shows before any
    /// weight of another is read: the transformer for what `plans` need of it.
    ///
    /// # Errors
    /// As loading each of them.
    pub fn check_weights(&self, plans: &[BlockPlans], placement: &Placement) -> Result<()> {
        let layout = |config| FluxLayout { config, plans: plans.to_vec() };
        let read = |file: &File| FluxConfig::read(file).map(layout);
        let infer = |reader: &Reader<'_>| FluxConfig::infer(reader).map(layout);
        check::<FluxWeights>(&self.transformer, placement, read, infer)?;
        check::<ClipWeights>(&self.text_encoder, placement, ClipConfig::read, ClipConfig::infer)?;
        check::<T5Weights>(&self.text_encoder_2, placement, T5Config::read, T5Config::infer)?;
        check::<VaeWeights>(&self.vae, placement, VaeConfig::read, VaeConfig::infer)
    }

    /// Loads the transformer in the pipeline's dtype.
    ///
    /// # Errors
    /// Those of its config and of [`FluxWeights::load`].
    pub fn load_flux(&self, placement: impl Into<Placement>) -> Result<FluxWeights> {
        let read = |file: &File| FluxConfig::read(file).map(FluxLayout::from);
        let infer = |reader: &Reader<'_>| FluxConfig::infer(reader).map(FluxLayout::from);
        load(&self.transformer, placement.into(), read, infer)
    }

    /// Loads what `plans` need of the transformer.
    ///
    /// # Errors
    /// As [`Self::load_flux`].
    pub fn load_flux_for(
        &self,
        plans: &[BlockPlans],
        placement: impl Into<Placement>,
    ) -> Result<FluxWeights> {
        let layout = |config| FluxLayout { config, plans: plans.to_vec() };
        let read = |file: &File| FluxConfig::read(file).map(layout);
        let infer = |reader: &Reader<'_>| FluxConfig::infer(reader).map(layout);
        load(&self.transformer, placement.into(), read, infer)
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
