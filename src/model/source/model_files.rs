//! The files of a model that was found.

use crate::error::Error;
use crate::error::Result;
use crate::files::File;
use crate::files::Folder;
use crate::model::config::ClipConfig;
use crate::model::config::FluxConfig;
use crate::model::config::SchedulerConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;
use crate::model::weights::checkpoint::Checkpoint;
use crate::model::weights::naming::Component;
use crate::model::weights::reader::Reader;
use crate::model::weights::shards::weight_files;
use crate::model::weights::stored_fp8;
use crate::model::weights::stored_fp8::StoredFp8;
use crate::model::weights::width_biases;
use crate::model::weights::width_biases::WidthBiases;

/// The files of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFiles {
    /// What the user called the model.
    pub name: String,
    /// The diffusion transformer.
    pub transformer: ComponentFiles,
    /// The autoencoder.
    pub vae: ComponentFiles,
    /// CLIP.
    pub text_encoder: ComponentFiles,
    /// T5.
    pub text_encoder_2: ComponentFiles,
    /// CLIP's tokenizer; single files come without.
    pub tokenizer: Option<Folder>,
    /// T5's tokenizer; single files come without.
    pub tokenizer_2: Option<Folder>,
    /// `scheduler_config.json`.
    pub scheduler: Option<File>,
    /// `elastic.json`: the widths that the weights were trained or prepared for.
    pub elastic: Option<File>,
    /// `plans`: what modes L, M and S are for this transformer.
    pub plans: Option<Folder>,
}

/// Where a network comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentFiles {
    /// Which network.
    pub component: Component,
    /// `config.json`; without it the sizes are told from the weights.
    pub config: Option<File>,
    /// The weights.
    pub weights: Weights,
}

/// Weight files.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// A diffusers component folder: one file, or shards with an index.
    Folder(Folder),
    /// A single file, which may hold other networks too.
    File(File),
    /// None: they are made from a seed where the network runs.
    Synthetic {
        /// Of all its random numbers.
        seed: u64,
    },
}

impl ComponentFiles {
    /// The network in a diffusers component folder.
    #[must_use]
    pub fn of_folder(component: Component, folder: Folder) -> Self {
        Self { component, config: folder.file("config.json"), weights: Weights::Folder(folder) }
    }

    /// Opens the weights.
    ///
    /// # Errors
    /// As [`Checkpoint::open_folder`].
    pub fn open(&self) -> Result<Checkpoint> {
        match &self.weights {
            Weights::Folder(folder) => Checkpoint::open_folder(folder),
            Weights::File(file) => Checkpoint::open(file),
            Weights::Synthetic { .. } => Err(Error::ModelNotFound {
                model: format!("synthetic {}", self.component.folder()),
                searched: "its weights are made on the GPU, there is no file of them".into(),
                advice: "name a model that has files".into(),
            }),
        }
    }

    /// What a prepared transformer's narrower layers add to their biases, if it is one.
    #[must_use]
    pub fn width_biases(&self) -> Option<File> {
        self.beside(width_biases::FILE)
    }

    /// A file beside a transformer's weights.
    fn beside(&self, name: &str) -> Option<File> {
        match (&self.weights, self.component) {
            (Weights::Folder(folder), Component::Transformer) => folder.file(name),
            _ => None,
        }
    }

    /// The weight files.
    ///
    /// # Errors
    /// If the folder holds none, or its index is broken.
    pub fn files(&self) -> Result<Vec<File>> {
        match &self.weights {
            Weights::Folder(folder) => Ok(weight_files(folder)?.files),
            Weights::File(file) => Ok(vec![file.clone()]),
            Weights::Synthetic { .. } => Ok(Vec::new()),
        }
    }

    /// The config, read from its file or else told from the weights; then what `load` makes of both.
    pub(super) fn with<C, W>(
        &self,
        read: impl Fn(&File) -> Result<C>,
        infer: impl Fn(&Reader<'_>) -> Result<C>,
        load: impl Fn(&mut Reader<'_>, C) -> Result<W>,
    ) -> Result<W> {
        let config = self.config.as_ref().map(read).transpose()?;
        let checkpoint = self.open()?;
        let biases = self.width_biases().as_ref().map(WidthBiases::open).transpose()?;
        let fp8 = self.beside(stored_fp8::FILE).as_ref().map(StoredFp8::open).transpose()?;
        let reader = Reader::new(&checkpoint, self.component)?;
        let blocks =
            ["transformer_blocks.", "single_transformer_blocks."].map(|name| reader.count(name));
        if let Some(biases) = &biases {
            biases.expect_no_more(blocks[0], blocks[1])?;
        }
        if let Some(fp8) = &fp8 {
            fp8.expect_no_more(blocks[0], blocks[1])?;
        }
        let mut reader = reader.prepared(biases.as_ref(), fp8.as_ref());
        let config = config.map_or_else(|| infer(&reader), Ok)?;
        load(&mut reader, config)
    }

    pub(super) fn config<C>(
        &self,
        read: impl Fn(&File) -> Result<C>,
        infer: impl Fn(&Reader<'_>) -> Result<C>,
    ) -> Result<C> {
        match &self.config {
            Some(file) => read(file),
            None => self.with(read, infer, |_, config| Ok(config)),
        }
    }
}

impl ModelFiles {
    /// The files of a network.
    #[must_use]
    pub fn component(&self, component: Component) -> &ComponentFiles {
        match component {
            Component::Transformer => &self.transformer,
            Component::Vae => &self.vae,
            Component::TextEncoder => &self.text_encoder,
            Component::TextEncoder2 => &self.text_encoder_2,
        }
    }

    /// The transformer's config.
    ///
    /// # Errors
    /// As [`FluxConfig::read`], or [`FluxConfig::infer`] without a file.
    pub fn flux_config(&self) -> Result<FluxConfig> {
        self.transformer.config(FluxConfig::read, FluxConfig::infer)
    }

    /// The VAE's config.
    ///
    /// # Errors
    /// As [`VaeConfig::read`], or [`VaeConfig::infer`] without a file.
    pub fn vae_config(&self) -> Result<VaeConfig> {
        self.vae.config(VaeConfig::read, VaeConfig::infer)
    }

    /// CLIP's config.
    ///
    /// # Errors
    /// As [`ClipConfig::read`], or [`ClipConfig::infer`] without a file.
    pub fn clip_config(&self) -> Result<ClipConfig> {
        self.text_encoder.config(ClipConfig::read, ClipConfig::infer)
    }

    /// T5's config.
    ///
    /// # Errors
    /// As [`T5Config::read`], or [`T5Config::infer`] without a file.
    pub fn t5_config(&self) -> Result<T5Config> {
        self.text_encoder_2.config(T5Config::read, T5Config::infer)
    }

    /// The scheduler's config; without a file dev's or schnell's, by the guidance embedding.
    ///
    /// # Errors
    /// As [`SchedulerConfig::read`].
    pub fn scheduler_config(&self) -> Result<SchedulerConfig> {
        match &self.scheduler {
            Some(file) => SchedulerConfig::read(file),
            None => Ok(SchedulerConfig::flux(self.flux_config()?.guidance_embeds)),
        }
    }

    /// CLIP's tokenizer and T5's.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] if one is nowhere.
    pub fn tokenizers(&self) -> Result<(&Folder, &Folder)> {
        let missing = |name: &str, flag: &str| Error::ModelNotFound {
            model: self.name.clone(),
            searched: format!(
                "its {name} is in no folder beside it and in no FLUX.1 model in the cache"
            ),
            advice: format!(
                "name its folder with `--{flag} PATH`, or download only the tokenizers: \
                 `hf download black-forest-labs/FLUX.1-schnell --include 'tokenizer*'`"
            ),
        };
        Ok((
            self.tokenizer.as_ref().ok_or_else(|| missing("tokenizer", "tokenizer"))?,
            self.tokenizer_2.as_ref().ok_or_else(|| missing("tokenizer_2", "tokenizer-2"))?,
        ))
    }
}
