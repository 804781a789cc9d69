//! The networks of a model: sizes, parameters, number formats, tensors.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::cli::inspect::Report;
use crate::cli::inspect::SCHEMA_VERSION;
use crate::cli::inspect::quantity;
use crate::error::Error;
use crate::files::File;
use crate::model::config::ClipConfig;
use crate::model::config::FluxConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;
use crate::model::source::ComponentFiles;
use crate::model::weights::checkpoint::Checkpoint;
use crate::model::weights::naming;
use crate::model::weights::naming::Component;
use crate::model::weights::reader::Reader;

/// Tensors counted.
#[derive(Default)]
struct Content {
    tensors: usize,
    parameters: usize,
    bytes: usize,
    /// Parameters by number format.
    formats: BTreeMap<String, usize>,
}

/// Opens every part, checks its config and counts its tensors.
///
/// # Errors
/// Those of the files: missing, damaged, or not what their configs say.
pub(super) fn report(
    name: &str,
    kind: &str,
    parts: &[ComponentFiles],
    list: bool,
) -> Result<Report> {
    let mut text = format!("{name}: a FLUX.1 {kind}\n");
    let mut components = Vec::new();
    let mut total = Content::default();
    let mut lists = String::new();
    for part in parts {
        let checkpoint = part.open()?;
        let sizes = match (sizes(part, &checkpoint), &part.config) {
            (Ok(sizes), _) => sizes,
            (Err(error), Some(_)) => return Err(error),
            (Err(error), None) => format!("sizes not told without a config.json: {error:#}"),
        };
        let views = naming::views(&checkpoint, part.component)?;
        let names: BTreeSet<&str> = views.values().map(|view| view.stored.as_str()).collect();
        let content = Content::of(&checkpoint, names.iter().copied());
        let folder = part.component.folder();
        let _ = writeln!(text, "  {folder:<16}{content}\n{:18}{sizes}", "");
        total.add(&content);
        let files = part.files()?;
        let files: Vec<_> = files.iter().map(|file| file.path().to_string_lossy()).collect();
        let mut entry = content.json();
        entry["component"] = folder.into();
        entry["sizes"] = sizes.into();
        entry["config"] = config_json(part)?;
        entry["files"] = files.into();
        if list {
            entry["tensor_list"] = tensor_list(&checkpoint, names.iter().copied());
            let _ = write!(lists, "{folder}\n{}", tensor_lines(&checkpoint, names.into_iter()));
        }
        components.push(entry);
    }
    if parts.len() > 1 {
        let _ = writeln!(text, "  {:<16}{total}", "total");
    }
    text.push_str(&lists);
    let mut json = json!({ "schema_version": SCHEMA_VERSION, "kind": kind, "path": name });
    json["components"] = components.into();
    json["total"] = total.json();
    Ok(Report { text, json })
}

/// Adds the widths that the weights were made for.
///
/// # Errors
/// When `elastic.json` cannot be read.
pub(super) fn add_elastic(report: &mut Report, file: &File) -> Result<()> {
    let elastic = json_of(file)?;
    report.text.push_str("  elastic.json\n");
    for (field, value) in elastic.as_object().into_iter().flatten() {
        // A list has an entry a line, so that it can be read.
        let entries = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for entry in entries {
            let _ = writeln!(report.text, "{:18}{field}: {}", "", plain(entry));
        }
    }
    report.json["elastic"] = elastic;
    Ok(())
}

/// JSON without braces and quotes.
fn plain(value: &Value) -> String {
    value.to_string().replace(['{', '}', '"'], "").replace(',', ", ").replace(':', " ")
}

/// A safetensors file that holds no network of FLUX.1.
pub(super) fn foreign(path: &Path, checkpoint: &Checkpoint, list: bool) -> Report {
    let content = Content::of(checkpoint, checkpoint.names());
    let mut json = content.json();
    json["schema_version"] = SCHEMA_VERSION.into();
    json["kind"] = "tensors".into();
    json["path"] = path.to_string_lossy().into();
    let no_network = "a safetensors file with no network of FLUX.1";
    let mut text = format!("{}: {no_network}\n  {content}\n", path.display());
    if list {
        json["tensor_list"] = tensor_list(checkpoint, checkpoint.names());
        text.push_str(&tensor_lines(checkpoint, checkpoint.names()));
    }
    Report { text, json }
}

impl Content {
    fn of<'n>(checkpoint: &Checkpoint, names: impl Iterator<Item = &'n str>) -> Self {
        let mut content = Self::default();
        for tensor in names.filter_map(|name| checkpoint.stored(name)) {
            let parameters = tensor.shape.iter().product::<usize>();
            content.tensors += 1;
            content.parameters += parameters;
            content.bytes += tensor.bytes.len();
            *content.formats.entry(tensor.dtype.to_string()).or_default() += parameters;
        }
        content
    }

    fn add(&mut self, other: &Self) {
        self.tensors += other.tensors;
        self.parameters += other.parameters;
        self.bytes += other.bytes;
        for (format, parameters) in &other.formats {
            *self.formats.entry(format.clone()).or_default() += parameters;
        }
    }

    fn json(&self) -> Value {
        json!({
            "tensors": self.tensors,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "formats": self.formats,
        })
    }
}

impl std::fmt::Display for Content {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parameters = quantity::count(self.parameters);
        let bytes = quantity::bytes(self.bytes);
        let formats: Vec<&str> = self.formats.keys().map(String::as_str).collect();
        let (tensors, formats) = (self.tensors, formats.join(", "));
        write!(formatter, "{parameters:>8} parameters {bytes:>9} {tensors:>6} tensors  {formats}")
    }
}

/// The sizes of a network in words, from its config or else its tensors.
fn sizes(part: &ComponentFiles, checkpoint: &Checkpoint) -> Result<String> {
    let reader = Reader::new(checkpoint, part.component)?;
    let file = part.config.as_ref();
    let text = match part.component {
        Component::Transformer => {
            let config = file.map_or_else(|| FluxConfig::infer(&reader), FluxConfig::read)?;
            let guidance = if config.guidance_embeds { "guidance" } else { "no guidance" };
            let (double, single) = (config.num_layers, config.num_single_layers);
            let (heads, size) = (config.num_attention_heads, config.attention_head_dim);
            format!(
                "{double} double and {single} single blocks, {heads} heads of {size}, {guidance}"
            )
        }
        Component::Vae => {
            let config = file.map_or_else(|| VaeConfig::infer(&reader), VaeConfig::read)?;
            let widths = config.block_out_channels.iter().map(usize::to_string);
            let widths = widths.collect::<Vec<_>>().join("-");
            let (latent, side) = (config.latent_channels, config.sample_size);
            format!("{latent} latent channels, levels of {widths}, made for {side} x {side} pixels")
        }
        Component::TextEncoder => {
            let config = file.map_or_else(|| ClipConfig::infer(&reader), ClipConfig::read)?;
            let (layers, width) = (config.num_hidden_layers, config.hidden_size);
            let (heads, tokens) = (config.num_attention_heads, config.max_position_embeddings);
            format!("CLIP of {layers} layers, width {width}, {heads} heads, {tokens} tokens")
        }
        Component::TextEncoder2 => {
            let config = file.map_or_else(|| T5Config::infer(&reader), T5Config::read)?;
            let (layers, width) = (config.num_layers, config.d_model);
            let (heads, size) = (config.num_heads, config.d_kv);
            format!("T5 of {layers} layers, width {width}, {heads} heads of {size}")
        }
    };
    Ok(text)
}

fn config_json(part: &ComponentFiles) -> Result<Value> {
    part.config.as_ref().map_or(Ok(Value::Null), json_of)
}

fn json_of(file: &File) -> Result<Value> {
    let parsed = serde_json::from_str(&file.text()?);
    let reason = |error| format!("expected JSON: {error}");
    Ok(parsed.map_err(|error| Error::Format { path: file.path().into(), reason: reason(error) })?)
}

fn tensor_list<'n>(checkpoint: &Checkpoint, names: impl Iterator<Item = &'n str>) -> Value {
    let entry = |name: &str| {
        let tensor = checkpoint.stored(name)?;
        let (dtype, shape) = (tensor.dtype.to_string(), &tensor.shape);
        Some(json!({ "name": name, "dtype": dtype, "shape": shape }))
    };
    names.filter_map(entry).collect()
}

fn tensor_lines<'n>(checkpoint: &Checkpoint, names: impl Iterator<Item = &'n str>) -> String {
    let line = |name: &str| {
        let tensor = checkpoint.stored(name)?;
        Some(format!("  {:<8} {:<20} {name}\n", tensor.dtype.to_string(), shape(&tensor.shape)))
    };
    names.filter_map(line).collect()
}

fn shape(shape: &[usize]) -> String {
    format!("{shape:?}")
}
