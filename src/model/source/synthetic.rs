//! Models of FLUX.1's size with random weights: for speed, which does not depend on what is drawn.
//!
//! Sizes are those of spec flux 1.1-1.4. The tokenizers are the demo model's, so CLIP's end of text is
//! that tokenizer's; their ids lie below the real vocabularies.

use crate::error::Error;
use crate::error::Result;
use crate::files::Folder;
use crate::model::source::ComponentFiles;
use crate::model::source::ModelFiles;
use crate::model::source::ModelSource;
use crate::model::source::Weights;
use crate::model::source::demo;
use crate::model::weights::naming::Component;

/// What a name starts with.
pub(super) const PREFIX: &str = "synthetic:";
const NAMES: [&str; 2] = ["flux-dev", "flux-schnell"];
/// Every model of a name has the same weights.
const SEED: u64 = 0;

macro_rules! configs {
    ($($path:literal: $file:literal,)*) => {
        &[$(($path, include_bytes!(concat!("synthetic/", $file, ".json")))),*]
    };
}

static FILES: &[(&str, &[u8])] = configs! {
    "flux-dev/text_encoder/config.json": "text_encoder",
    "flux-dev/text_encoder_2/config.json": "text_encoder_2",
    "flux-dev/transformer/config.json": "transformer_dev",
    "flux-dev/vae/config.json": "vae",
    "flux-schnell/text_encoder/config.json": "text_encoder",
    "flux-schnell/text_encoder_2/config.json": "text_encoder_2",
    "flux-schnell/transformer/config.json": "transformer_schnell",
    "flux-schnell/vae/config.json": "vae",
};

/// The files of `synthetic:…`: configs in the program, and weights that are none.
pub(super) fn files(source: &ModelSource) -> Result<ModelFiles> {
    let name = source.model.strip_prefix(PREFIX).unwrap_or_default();
    if !NAMES.contains(&name) {
        return Err(Error::ModelNotFound {
            model: source.model.clone(),
            searched: "it is not one of the synthetic models".into(),
            advice: format!("use {}", NAMES.map(|name| format!("{PREFIX}{name}")).join(" or ")),
        });
    }
    let folder = Folder::Embedded(FILES, format!("{name}/"));
    let find = |component: Component| -> Result<ComponentFiles> {
        if let Some(files) = source.replaced(component)? {
            return Ok(files);
        }
        let found = folder.folder(component.folder());
        let found = found.ok_or_else(|| source.missing(component, folder.path()))?;
        let weights = Weights::Synthetic { seed: SEED };
        Ok(ComponentFiles { weights, ..ComponentFiles::of_folder(component, found) })
    };
    let demo = demo::folder()?;
    Ok(ModelFiles {
        name: source.model.clone(),
        transformer: find(Component::Transformer)?,
        vae: find(Component::Vae)?,
        text_encoder: find(Component::TextEncoder)?,
        text_encoder_2: find(Component::TextEncoder2)?,
        tokenizer: source.tokenizer_in(source.tokenizer.as_deref(), &demo, "tokenizer")?,
        tokenizer_2: source.tokenizer_in(source.tokenizer_2.as_deref(), &demo, "tokenizer_2")?,
        scheduler: None,
        elastic: None,
        plans: None,
    })
}
