//! `flux-rt inspect`: what is in a model, a weight file or a picture.

mod model;
mod picture;
mod quantity;

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::cli::args::InspectArgs;
use crate::cli::stream;
use crate::error::Error;
use crate::files::File;
use crate::files::Folder;
use crate::model::source::ComponentFiles;
use crate::model::source::ModelSource;
use crate::model::source::Weights;
use crate::model::weights::checkpoint::Checkpoint;
use crate::model::weights::naming::Component;

/// Raised when a field of a document changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// What was found, for people and for programs.
struct Report {
    text: String,
    json: Value,
}

/// Shows what `args.path` is.
///
/// # Errors
/// When there is nothing, or something that cannot be read as what it says it is.
pub(super) fn execute(args: &InspectArgs) -> Result<()> {
    let report = report(args)?;
    if args.json {
        stream::document(&report.json)?
    } else {
        stream::result(&report.text)?
    }
    Ok(())
}

fn report(args: &InspectArgs) -> Result<Report> {
    let path = Path::new(&args.path);
    if path.is_file() {
        let file = File::Disk(path.into());
        let bytes = file.bytes()?;
        if picture::is_png(&bytes) {
            return picture::report(path, &bytes);
        }
        return single_file(path, &file, args.tensors);
    }
    let folder = Folder::Disk(path.into());
    let is_component = path.is_dir()
        && folder.file("config.json").is_some()
        && folder.file("model_index.json").is_none();
    if is_component {
        return component_folder(path, folder, args.tensors);
    }
    let files = ModelSource::new(&args.path).resolve()?;
    let parts: Vec<ComponentFiles> =
        Component::ALL.into_iter().map(|component| files.component(component).clone()).collect();
    let mut report = model::report(&args.path, "model", &parts, args.tensors)?;
    if let Some(elastic) = &files.elastic {
        model::add_elastic(&mut report, elastic)?;
    }
    Ok(report)
}

fn single_file(path: &Path, file: &File, tensors: bool) -> Result<Report> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if extension != "safetensors" && matches!(extension.as_str(), "json" | "txt" | "jpg" | "jpeg") {
        let reason = "expected a safetensors file, a PNG or a model folder".to_owned();
        return Err(Error::Format { path: path.into(), reason }.into());
    }
    let checkpoint = Checkpoint::open(file)?;
    let held = Component::ALL.into_iter().filter(|component| component.is_in(&checkpoint));
    let part = |component| {
        let weights = Weights::File(file.clone());
        ComponentFiles { component, config: None, weights }
    };
    let parts: Vec<ComponentFiles> = held.map(part).collect();
    if parts.is_empty() {
        return Ok(model::foreign(path, &checkpoint, tensors));
    }
    model::report(&path.display().to_string(), "file", &parts, tensors)
}

fn component_folder(path: &Path, folder: Folder, tensors: bool) -> Result<Report> {
    let checkpoint = Checkpoint::open_folder(&folder)?;
    let held = Component::ALL.into_iter().find(|component| component.is_in(&checkpoint));
    let Some(component) = held else {
        return Ok(model::foreign(path, &checkpoint, tensors));
    };
    let config = folder.file("config.json");
    let part = ComponentFiles { component, config, weights: Weights::Folder(folder) };
    model::report(&path.display().to_string(), "component", &[part], tensors)
}
