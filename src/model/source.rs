//! What the user calls a model, and the files that it is: `demo`, a folder, single files, or an id
//! in the Hugging Face cache.

mod demo;
mod digest;
mod fit;
mod folder;
mod kernel_limits;
mod load;
mod model_files;
mod single_file;
mod synthetic;

use std::path::Path;
use std::path::PathBuf;

pub use digest::WeightsDigest;
pub use digest::sha256;
pub use fit::ModelConfigs;
pub use model_files::ComponentFiles;
pub use model_files::ModelFiles;
pub use model_files::Weights;

use crate::error::Error;
use crate::error::Result;
use crate::files;
use crate::files::File;
use crate::files::Folder;
use crate::model::closest::closest;
use crate::model::hf_cache;
use crate::model::hf_cache::Env;
use crate::model::hf_cache::HubId;
use crate::model::weights::naming::Component;

/// What the user asked for; the paths replace parts of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSource {
    /// `demo`, `synthetic:…`, a folder, a safetensors file, or `org/name[@revision]`.
    pub model: String,
    /// A single file or a diffusers component folder.
    pub transformer: Option<PathBuf>,
    /// A single file or a diffusers component folder.
    pub vae: Option<PathBuf>,
    /// CLIP: a single file or a diffusers component folder.
    pub text_encoder: Option<PathBuf>,
    /// T5: a single file or a diffusers component folder.
    pub text_encoder_2: Option<PathBuf>,
    /// A folder with CLIP's tokenizer.
    pub tokenizer: Option<PathBuf>,
    /// A folder with T5's tokenizer.
    pub tokenizer_2: Option<PathBuf>,
}

impl Default for ModelSource {
    /// The demo model.
    fn default() -> Self {
        Self {
            model: "demo".to_owned(),
            transformer: None,
            vae: None,
            text_encoder: None,
            text_encoder_2: None,
            tokenizer: None,
            tokenizer_2: None,
        }
    }
}

impl ModelSource {
    /// The model called `model`, with nothing replaced.
    #[must_use]
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into(), ..Self::default() }
    }

    /// Finds the model's files; weights are not opened, except to see what an all-in-one file holds.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`], [`Error::Config`] for a pipeline of another kind.
    pub fn resolve(&self) -> Result<ModelFiles> {
        self.resolve_with(&hf_cache::process_env)
    }

    /// As [`ModelSource::resolve`], with the environment variables looked up by `env`.
    ///
    /// # Errors
    /// As [`ModelSource::resolve`].
    pub fn resolve_with(&self, env: Env<'_>) -> Result<ModelFiles> {
        let path = Path::new(&self.model);
        if self.model == "demo" {
            folder::diffusers(self, &demo::folder()?)
        } else if self.model.starts_with(synthetic::PREFIX) {
            synthetic::files(self)
        } else if path.is_dir() {
            let folder = Folder::Disk(path.into());
            match folder::is_diffusers(&folder) {
                true => folder::diffusers(self, &folder),
                false => single_file::folder_of_files(self, path, env),
            }
        } else if path.is_file() {
            single_file::one_file(self, path, env)
        } else if let Some(id) = HubId::parse(&self.model) {
            let found = hf_cache::find(&id, env).map_err(|error| as_path_too(path, error))?;
            folder::diffusers(self, &Folder::Disk(found))
        } else {
            Err(no_such_path(path))
        }
    }

    /// The path that replaces a component.
    fn replacement(&self, component: Component) -> Option<&Path> {
        let path = match component {
            Component::Transformer => &self.transformer,
            Component::Vae => &self.vae,
            Component::TextEncoder => &self.text_encoder,
            Component::TextEncoder2 => &self.text_encoder_2,
        };
        path.as_deref()
    }

    /// The files of a component that is replaced.
    fn replaced(&self, component: Component) -> Result<Option<ComponentFiles>> {
        let Some(path) = self.replacement(component) else { return Ok(None) };
        if path.is_dir() {
            return Ok(Some(ComponentFiles::of_folder(component, Folder::Disk(path.into()))));
        }
        if path.is_file() {
            let file = File::Disk(path.into());
            return Ok(Some(ComponentFiles {
                component,
                config: None,
                weights: Weights::File(file),
            }));
        }
        Err(no_such_path(path))
    }

    /// The tokenizer's folder that the user names, else the one in the model.
    fn tokenizer_in(
        &self,
        named: Option<&Path>,
        model: &Folder,
        name: &str,
    ) -> Result<Option<Folder>> {
        match named {
            Some(path) if path.is_dir() => Ok(Some(Folder::Disk(path.into()))),
            Some(path) => Err(no_such_path(path)),
            None => Ok(model.folder(name)),
        }
    }

    /// The error for a component that is nowhere.
    fn missing(&self, component: Component, place: &Path) -> Error {
        let name = component.folder();
        let named = format!("name it with `--{} PATH`", name.replace('_', "-"));
        let downloaded = HubId::parse(&self.model).filter(|_| !Path::new(&self.model).exists());
        let advice = match downloaded {
            Some(id) => format!("complete the download with `{}`, or {named}", id.download()),
            None => named,
        };
        Error::ModelNotFound {
            model: self.model.clone(),
            searched: format!("its {name} is not in {}", place.display()),
            advice,
        }
    }
}

fn no_such_path(path: &Path) -> Error {
    let searched = format!("there is no such file or folder as {}", path.display());
    let advice = if path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("demo")) {
        "did you mean `demo`, the model inside the program?".into()
    } else if let Some(near) = nearest(path) {
        format!("did you mean `{}`?", near.display())
    } else {
        "give `demo`, a folder, a safetensors file or an id like `black-forest-labs/FLUX.1-dev`"
            .into()
    };
    Error::ModelNotFound { model: path.display().to_string(), searched, advice }
}

/// An id that is in no cache may have been meant as a path: says that this is not there either.
fn as_path_too(path: &Path, error: Error) -> Error {
    let Error::ModelNotFound { model, searched, advice } = error else { return error };
    let searched = format!("there is no such file or folder here; {searched}");
    let advice = match nearest(path) {
        Some(near) => format!("did you mean `{}`? Else {advice}", near.display()),
        None => advice,
    };
    Error::ModelNotFound { model, searched, advice }
}

/// The path beside this one whose name is nearest.
fn nearest(path: &Path) -> Option<PathBuf> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let siblings = files::list(parent.unwrap_or(Path::new("."))).unwrap_or_default();
    let name = path.file_name()?.to_string_lossy();
    // A device or a pipe has its own name here.
    let others = siblings.iter().map(String::as_str).filter(|other| *other != name);
    closest(&name, others).map(|near| path.with_file_name(near))
}
