//! A model in the diffusers layout: one folder a component, classes in `model_index.json`.

use serde_json::Value;
use serde_json::json;

use crate::error::Error;
use crate::error::Result;
use crate::files::Folder;
use crate::model::config::Fields;
use crate::model::source::ComponentFiles;
use crate::model::source::ModelFiles;
use crate::model::source::ModelSource;
use crate::model::weights::naming::Component;

const SCHEDULER: &str = "scheduler/scheduler_config.json";
/// The classes that this program implements.
const CLASSES: [(&str, &str); 5] = [
    ("transformer", "FluxTransformer2DModel"),
    ("vae", "AutoencoderKL"),
    ("text_encoder", "CLIPTextModel"),
    ("text_encoder_2", "T5EncoderModel"),
    ("scheduler", "FlowMatchEulerDiscreteScheduler"),
];

/// Whether a folder is in this layout, rather than one of single files.
pub(super) fn is_diffusers(folder: &Folder) -> bool {
    folder.file("model_index.json").is_some() || folder.folder("transformer").is_some()
}

/// The files of a model in this layout.
pub(super) fn diffusers(source: &ModelSource, folder: &Folder) -> Result<ModelFiles> {
    let scheduler = folder.file(SCHEDULER);
    if let Some(index) = folder.file("model_index.json") {
        let fields = Fields::read(&index)?;
        check_classes(&fields)?;
        // Another schedule would draw another picture, silently.
        if scheduler.is_none() && fields.get("scheduler").is_some() {
            let reason =
                format!("expected {SCHEDULER} as model_index.json says, found no such file");
            return Err(Error::Format { path: folder.path().into(), reason });
        }
    }
    let find = |component: Component| -> Result<ComponentFiles> {
        if let Some(files) = source.replaced(component)? {
            return Ok(files);
        }
        let found = folder.folder(component.folder());
        let found = found.ok_or_else(|| source.missing(component, folder.path()))?;
        Ok(ComponentFiles::of_folder(component, found))
    };
    Ok(ModelFiles {
        name: source.model.clone(),
        transformer: find(Component::Transformer)?,
        vae: find(Component::Vae)?,
        text_encoder: find(Component::TextEncoder)?,
        text_encoder_2: find(Component::TextEncoder2)?,
        tokenizer: source.tokenizer_in(source.tokenizer.as_deref(), folder, "tokenizer")?,
        tokenizer_2: source.tokenizer_in(source.tokenizer_2.as_deref(), folder, "tokenizer_2")?,
        scheduler,
        elastic: folder.file("elastic.json"),
        // Of another transformer they would say nothing.
        plans: folder.folder("plans").filter(|_| source.transformer.is_none()),
    })
}

/// Refuses pipelines and networks of another kind.
fn check_classes(fields: &Fields) -> Result<()> {
    fields.exactly("_class_name", &json!("FluxPipeline"))?;
    for (component, class) in CLASSES {
        // `[library, class]`; null twice for one that was left out.
        let found = fields.get(component).and_then(|entry| entry.get(1)).unwrap_or(&Value::Null);
        if !found.is_null() && found != class {
            return fields.refuse(component, format!("class {class}"));
        }
    }
    Ok(())
}
