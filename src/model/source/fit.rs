//! Whether the networks of a model fit each other: configs that are each sound may not be.

use std::path::Path;

use crate::error::Error;
use crate::error::Result;
use crate::files::File;
use crate::model::config::ClipConfig;
use crate::model::config::FluxConfig;
use crate::model::config::SchedulerConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;
use crate::model::plan::BlockPlans;
use crate::model::source::ComponentFiles;
use crate::model::source::ModelFiles;
use crate::model::source::Weights;
use crate::model::weights::clip::ClipWeights;
use crate::model::weights::counter::Bytes;
use crate::model::weights::counter::Counter;
use crate::model::weights::dtype::WeightDtype;
use crate::model::weights::elastic::FluxLayout;
use crate::model::weights::flux::FluxWeights;
use crate::model::weights::offload::Residency;
use crate::model::weights::t5::T5Weights;
use crate::model::weights::vae::VaeWeights;

/// Latents are packed in squares of 2 x 2.
const PACKED: usize = 4;

/// All sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfigs {
    /// The transformer's.
    pub flux: FluxConfig,
    /// The VAE's.
    pub vae: VaeConfig,
    /// CLIP's.
    pub clip: ClipConfig,
    /// T5's.
    pub t5: T5Config,
    /// The scheduler's.
    pub scheduler: SchedulerConfig,
}

impl ModelConfigs {
    /// Bytes of each network's weights with matrices of `dtype`, of the transformer what the plans need:
    /// transformer, VAE, CLIP, T5.
    ///
    /// # Errors
    /// Never, as long as a network reads every set of tensors that its sizes ask for.
    pub fn weight_bytes(&self, dtype: WeightDtype, plans: &[BlockPlans]) -> Result<[usize; 4]> {
        let bytes = self.weight_bytes_at(dtype, plans, Residency::default())?;
        Ok(bytes.map(|bytes| bytes.resident))
    }

    /// As [`Self::weight_bytes`], where `residency` leaves them.
    ///
    /// # Errors
    /// As [`Self::weight_bytes`].
    pub fn weight_bytes_at(
        &self,
        dtype: WeightDtype,
        plans: &[BlockPlans],
        residency: Residency,
    ) -> Result<[Bytes; 4]> {
        let flux = FluxLayout { config: self.flux.clone(), plans: plans.to_vec() };
        Ok([
            Counter::count::<FluxWeights>(dtype, residency, &flux)?,
            Counter::count::<VaeWeights>(dtype, residency, &self.vae)?,
            Counter::count::<ClipWeights>(dtype, residency, &self.clip)?,
            Counter::count::<T5Weights>(dtype, residency, &self.t5)?,
        ])
    }
}

impl ModelFiles {
    /// Reads all configs, and checks that the networks fit each other and a text-to-image pipeline.
    ///
    /// # Errors
    /// Those of the configs; [`Error::Config`] for two that do not fit.
    pub fn configs(&self) -> Result<ModelConfigs> {
        let configs = ModelConfigs {
            flux: self.flux_config()?,
            vae: self.vae_config()?,
            clip: self.clip_config()?,
            t5: self.t5_config()?,
            scheduler: self.scheduler_config()?,
        };
        let ModelConfigs { flux, vae, clip, t5, .. } = &configs;
        let packed = PACKED * vae.latent_channels;
        let pairs = [
            ("in_channels", flux.in_channels, packed, "4 x the VAE's latent_channels"),
            ("out_channels", flux.out_channels(), packed, "4 x the VAE's latent_channels"),
            ("joint_attention_dim", flux.joint_attention_dim, t5.d_model, "T5's d_model"),
            (
                "pooled_projection_dim",
                flux.pooled_projection_dim,
                clip.hidden_size,
                "CLIP's hidden_size",
            ),
        ];
        for (field, actual, expected, source) in pairs {
            if actual != expected {
                return Err(unfit(
                    &self.transformer,
                    field,
                    format!("{expected}, {source}"),
                    actual,
                ));
            }
        }
        let (levels, expected) = (vae.block_out_channels.len(), VaeConfig::LEVELS);
        if levels != expected {
            let side = VaeConfig::PIXELS_PER_LATENT;
            let expected = format!("{expected} levels: a latent is {side} x {side} pixels");
            return Err(unfit(&self.vae, "block_out_channels", expected, levels));
        }
        Ok(configs)
    }
}

pub(super) fn unfit(part: &ComponentFiles, field: &str, expected: String, actual: usize) -> Error {
    let path = match (&part.config, &part.weights) {
        (Some(file), _) | (None, Weights::File(file)) => File::path(file),
        (None, Weights::Folder(folder)) => folder.path(),
        (None, Weights::Synthetic { .. }) => Path::new("synthetic"),
    };
    let (path, field) = (path.into(), field.into());
    Error::Config { path, field, expected, actual: actual.to_string() }
}
