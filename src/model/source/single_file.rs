//! Models in single files: one that holds several networks, or a folder with one file a network.

use std::path::Path;

use crate::error::Error;
use crate::error::Result;
use crate::files;
use crate::files::File;
use crate::files::Folder;
use crate::model::hf_cache;
use crate::model::hf_cache::Env;
use crate::model::hf_cache::HubId;
use crate::model::source::ComponentFiles;
use crate::model::source::ModelFiles;
use crate::model::source::ModelSource;
use crate::model::source::Weights;
use crate::model::weights::checkpoint::Checkpoint;
use crate::model::weights::naming::Component;

/// Where single files' tokenizers can come from: they are the same for every FLUX.1 model.
const TOKENIZER_MODELS: [&str; 5] = [
    "black-forest-labs/FLUX.1-schnell",
    "black-forest-labs/FLUX.1-dev",
    "black-forest-labs/FLUX.1-Krea-dev",
    "black-forest-labs/FLUX.1-Kontext-dev",
    "black-forest-labs/FLUX.1-Fill-dev",
];

/// A file with all networks, or with some; the others must be named.
pub(super) fn one_file(source: &ModelSource, path: &Path, env: Env<'_>) -> Result<ModelFiles> {
    let file = File::Disk(path.into());
    let checkpoint = Checkpoint::open(&file)?;
    if !Component::ALL.into_iter().any(|component| component.is_in(&checkpoint)) {
        let first: Vec<&str> = checkpoint.names().take(3).collect();
        let reason = format!(
            "expected a network of FLUX.1 (transformer, VAE, CLIP, T5), found tensors like {}",
            first.join(", ")
        );
        return Err(Error::Format { path: path.into(), reason });
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    model(source, folder, env, |component| {
        Ok(component.is_in(&checkpoint).then(|| Weights::File(file.clone())))
    })
}

/// A folder with `flux1-*`, `ae`, `clip_l` and `t5xxl*`.
pub(super) fn folder_of_files(
    source: &ModelSource,
    path: &Path,
    env: Env<'_>,
) -> Result<ModelFiles> {
    let names = files::list(path)?;
    model(source, path, env, |component| {
        let fits = |name: &&String| {
            let Some(stem) = name.strip_suffix(".safetensors") else { return false };
            match component {
                Component::Transformer => stem.starts_with("flux1-"),
                Component::Vae => stem == "ae",
                Component::TextEncoder => stem == "clip_l",
                Component::TextEncoder2 => stem.starts_with("t5xxl"),
            }
        };
        let found: Vec<&String> = names.iter().filter(fits).collect();
        match found[..] {
            [] => Ok(None),
            [name] => Ok(Some(Weights::File(File::Disk(path.join(name))))),
            [first, second, ..] => {
                let Error::ModelNotFound { model, advice, .. } = source.missing(component, path)
                else {
                    return Ok(None);
                };
                let searched = format!("{} holds both {first} and {second}", path.display());
                Err(Error::ModelNotFound { model, searched, advice })
            }
        }
    })
}

fn model(
    source: &ModelSource,
    place: &Path,
    env: Env<'_>,
    weights: impl Fn(Component) -> Result<Option<Weights>>,
) -> Result<ModelFiles> {
    let find = |component: Component| -> Result<ComponentFiles> {
        if let Some(files) = source.replaced(component)? {
            return Ok(files);
        }
        let weights = weights(component)?.ok_or_else(|| source.missing(component, place))?;
        Ok(ComponentFiles { component, config: None, weights })
    };
    let folder = Folder::Disk(place.into());
    let tokenizer = |named: Option<&Path>, name: &str| -> Result<Option<Folder>> {
        let found = source.tokenizer_in(named, &folder, name)?;
        Ok(found.or_else(|| cached_tokenizer(name, env)))
    };
    Ok(ModelFiles {
        name: source.model.clone(),
        transformer: find(Component::Transformer)?,
        vae: find(Component::Vae)?,
        text_encoder: find(Component::TextEncoder)?,
        text_encoder_2: find(Component::TextEncoder2)?,
        tokenizer: tokenizer(source.tokenizer.as_deref(), "tokenizer")?,
        tokenizer_2: tokenizer(source.tokenizer_2.as_deref(), "tokenizer_2")?,
        scheduler: folder.file("scheduler/scheduler_config.json"),
        elastic: folder.file("elastic.json"),
        plans: None,
    })
}

/// A tokenizer's folder in a model that was downloaded.
fn cached_tokenizer(name: &str, env: Env<'_>) -> Option<Folder> {
    let ids = TOKENIZER_MODELS.iter().filter_map(|id| HubId::parse(id));
    let models = ids.filter_map(|id| hf_cache::find(&id, env).ok());
    models.map(Folder::Disk).find_map(|model| model.folder(name))
}
