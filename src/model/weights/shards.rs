//! Which files of a component's folder hold its weights: one file, or shards with an index.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::Error;
use crate::error::Result;
use crate::error::json_error;
use crate::error::quoted;
use crate::files::File;
use crate::files::Folder;
use crate::model::weights::header::UniqueMap;

/// File names of a component's weights without `.safetensors`: diffusers', transformers'.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// In the order of preference when a folder holds several.
const VARIANTS: [&str; 3] = ["", ".bf16", ".fp16"];

/// Of an index; the transformer's is 121 kB long.
const MOST_BYTES: usize = 4 << 20;
/// Bytes of a tensor's or a file's name.
const MOST_NAME: usize = 256;

/// The weights of a component's folder.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    /// One, or the shards.
    pub files: Vec<File>,
    /// Of shards.
    pub index: Option<Index>,
}

/// `*.safetensors.index.json`.
#[derive(Debug)]
pub(crate) struct Index {
    pub path: PathBuf,
    /// Tensor to shard.
    pub weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawIndex {
    weight_map: UniqueMap,
}

/// Finds the weight files in a component's folder.
pub(crate) fn weight_files(folder: &Folder) -> Result<WeightFiles> {
    for stem in STEMS {
        for variant in VARIANTS {
            // Newer and older spelling of a variant's index.
            let indices = [
                format!("{stem}.safetensors.index{variant}.json"),
                format!("{stem}{variant}.safetensors.index.json"),
            ];
            if let Some(index) = indices.iter().find_map(|name| folder.file(name)) {
                return sharded(folder, &index);
            }
            if let Some(file) = folder.file(&format!("{stem}{variant}.safetensors")) {
                return Ok(WeightFiles { files: vec![file], index: None });
            }
        }
    }
    let names = folder.names()?;
    let is_weights =
        |name: &&String| STEMS.iter().any(|stem| **name == format!("{stem}.safetensors"));
    if let Some(name) = names.iter().find(is_weights) {
        // Listed, but not a file that could be opened: what an interrupted download leaves behind.
        let reason = format!("expected the file {name}, found a link to nothing or a folder");
        return Err(Error::Format { path: folder.path().into(), reason });
    }
    let stems = STEMS.map(|stem| format!("{stem}.safetensors")).join(" or ");
    let found = if names.is_empty() { "nothing".into() } else { names.join(", ") };
    let reason = format!("expected {stems}, or an index of its shards; found {found}");
    Err(Error::Format { path: folder.path().into(), reason })
}

fn sharded(folder: &Folder, index: &File) -> Result<WeightFiles> {
    let path = index.path();
    let format = |reason| Error::Format { path: path.into(), reason };
    let RawIndex { weight_map: UniqueMap(weight_map) } =
        serde_json::from_str(&index.text_up_to(MOST_BYTES)?).map_err(|error| {
            format(format!("not a valid index of shards: {}", json_error(&error)))
        })?;
    if let Some(name) = weight_map.keys().find(|name| name.len() > MOST_NAME) {
        let found = quoted(name);
        let reason = format!("expected names of at most {MOST_NAME} bytes, found `{found}`");
        return Err(format(reason));
    }
    let mut names: Vec<&String> = weight_map.values().collect();
    names.sort();
    names.dedup();
    let mut files = Vec::new();
    for name in names {
        let is_beside = !name.contains(['/', '\\']) && name.ends_with(".safetensors");
        if !is_beside || name.len() > MOST_NAME {
            let found = quoted(name);
            let reason =
                format!("expected shards that are safetensors files beside it, found `{found}`");
            return Err(format(reason));
        }
        let Some(file) = folder.file(name) else {
            let tensor = weight_map.iter().find(|(_, shard)| *shard == name);
            let tensor = tensor.map(|(tensor, _)| tensor.clone()).unwrap_or_default();
            let (expected, actual) =
                (format!("shard {name} beside the index"), "no such file".into());
            return Err(Error::Weight { file: path.into(), tensor, expected, actual });
        };
        files.push(file);
    }
    if files.is_empty() {
        return Err(format("expected at least one tensor in `weight_map`, found none".into()));
    }
    let index = Some(Index { path: path.into(), weight_map });
    Ok(WeightFiles { files, index })
}
