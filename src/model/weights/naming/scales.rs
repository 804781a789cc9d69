//! fp8 weights with one scale a tensor: a weight is its fp8 value times the scale.
//!
//! Both spellings of ComfyUI (`scale_weight`, `weight_scale`), its marker tensor `scaled_fp8` and
//! its descriptions `comfy_quant` and `_quantization_metadata`. A scale that is not understood is
//! an error: ignored, it would make weights a hundred times too large.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use safetensors::Dtype;
use serde::Deserialize;

use crate::error::Error;
use crate::error::Result;
use crate::model::weights::checkpoint::Checkpoint;
use crate::model::weights::dtype;
use crate::model::weights::dtype::Stored;

/// The formats that a value times a scale describes.
const FORMATS: [&str; 2] = ["float8_e4m3fn", "float8_e5m2"];

/// The scales of a component.
#[derive(Default)]
pub(super) struct Scales {
    /// By the stored name of the weight.
    scales: HashMap<String, f32>,
    /// Stored names of the tensors that describe others.
    claimed: HashSet<String>,
}

impl Scales {
    /// What the numbers stored under `name` are to be multiplied by.
    pub(super) fn of(&self, name: &str) -> f32 {
        self.scales.get(name).copied().unwrap_or(1.0)
    }

    /// Whether `name` is a scale or a marker, not a weight.
    pub(super) fn claims(&self, name: &str) -> bool {
        self.claimed.contains(name)
    }
}

/// Finds and checks the scales among the stored `names`.
pub(super) fn collect<'n>(
    checkpoint: &Checkpoint,
    names: impl Iterator<Item = &'n str>,
) -> Result<Scales> {
    check_metadata(checkpoint)?;
    let mut scales = Scales::default();
    for name in names {
        let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        let weight = format!("{module}.weight");
        match leaf {
            "scale_weight" | "weight_scale" => {
                let scale = weight_scale(checkpoint, name, &weight)?;
                if scales
                    .scales
                    .insert(weight, scale)
                    .is_some_and(|other| other.to_bits() != scale.to_bits())
                {
                    return Err(checkpoint.error(
                        name,
                        "one scale",
                        "another in the other spelling",
                    ));
                }
            }
            // Of fp8 products only, which divide the activations by it.
            "scale_input" | "input_scale" => drop(scalar(checkpoint, name)?),
            "scaled_fp8" => check_marker(checkpoint, name)?,
            "comfy_quant" => check_description(checkpoint, name)?,
            _ if leaf.contains("scale")
                && (is_fp8(checkpoint, &weight) || is_fp8(checkpoint, module)) =>
            {
                let expected =
                    "a known kind of scale beside an fp8 weight (scale_weight, weight_scale)";
                return Err(checkpoint.error(name, expected, format!("`{leaf}`")));
            }
            _ => continue,
        }
        scales.claimed.insert(name.into());
    }
    Ok(scales)
}

fn is_fp8(checkpoint: &Checkpoint, name: &str) -> bool {
    let stored = checkpoint.stored(name).and_then(|tensor| Stored::of(tensor.dtype));
    stored.is_some_and(Stored::is_fp8)
}

/// The scale stored under `name`, for the weight stored under `weight`.
fn weight_scale(checkpoint: &Checkpoint, name: &str, weight: &str) -> Result<f32> {
    let scale = scalar(checkpoint, name)?;
    if !checkpoint.contains(weight) {
        return Err(checkpoint.error(name, format!("`{weight}` beside it"), "no such tensor"));
    }
    #[expect(clippy::float_cmp, reason = "only exactly 1 changes nothing")]
    if scale != 1.0 && !is_fp8(checkpoint, weight) {
        return Err(checkpoint.error(
            weight,
            "an fp8 weight, since it has a scale",
            "another dtype",
        ));
    }
    Ok(scale)
}

/// The only element of a tensor, which must be positive.
fn scalar(checkpoint: &Checkpoint, name: &str) -> Result<f32> {
    let expected = "one positive number of F32, BF16 or F16";
    let (Some(tensor), Some(bytes)) = (checkpoint.stored(name), checkpoint.bytes_of(name)) else {
        return Err(checkpoint.error(name, expected, "no such tensor"));
    };
    let stored = Stored::of(tensor.dtype).filter(|stored| !stored.is_fp8());
    let (Some(stored), 1) = (stored, tensor.shape.iter().product::<usize>()) else {
        return Err(checkpoint.error(
            name,
            expected,
            format!("{:?} {:?}", tensor.dtype, tensor.shape),
        ));
    };
    let mut value = [0.0_f32];
    dtype::convert(&mut value, bytes, stored, 1.0);
    let [value] = value;
    if !(value.is_finite() && value > 0.0) {
        return Err(checkpoint.error(name, expected, format!("{value}")));
    }
    Ok(value)
}

/// The marker names the format of the weights by its own dtype; F32 means e4m3.
fn check_marker(checkpoint: &Checkpoint, name: &str) -> Result<()> {
    let dtype = checkpoint.stored(name).map(|tensor| tensor.dtype);
    if matches!(dtype, Some(Dtype::F32 | Dtype::F8_E4M3 | Dtype::F8_E5M2)) {
        return Ok(());
    }
    Err(checkpoint.error(name, "F32, F8_E4M3 or F8_E5M2", format!("{dtype:?}")))
}

/// How a layer is stored. Only what is needed is kept: files may hold more.
#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    format: Option<String>,
}

/// A file's layers.
#[derive(Deserialize)]
struct Descriptions {
    #[serde(default)]
    layers: Option<BTreeMap<String, Description>>,
}

/// A layer's description is JSON in a U8 tensor.
fn check_description(checkpoint: &Checkpoint, name: &str) -> Result<()> {
    let bytes = checkpoint.bytes_of(name).unwrap_or_default();
    let description: Description = serde_json::from_slice(bytes)
        .map_err(|error| checkpoint.error(name, "JSON with a `format`", format!("{error}")))?;
    check_format(&description).map_err(|found| checkpoint.error(name, FORMATS.join(" or "), found))
}

/// The whole file's description: `{"layers": {name: {"format": …}}}`.
fn check_metadata(checkpoint: &Checkpoint) -> Result<()> {
    for (path, text) in checkpoint.metadata("_quantization_metadata") {
        let error = |reason| Error::Format { path: path.into(), reason };
        let all: Descriptions = serde_json::from_str(text)
            .map_err(|source| error(format!("`_quantization_metadata` is not valid: {source}")))?;
        for (layer, description) in all.layers.into_iter().flatten() {
            check_format(&description).map_err(|found| {
                let expected = FORMATS.join(" or ");
                error(format!("layer `{layer}`: expected format {expected}, found {found}"))
            })?;
        }
    }
    Ok(())
}

/// Fails with what was found instead.
fn check_format(Description { format }: &Description) -> Result<(), String> {
    match format {
        Some(format) if FORMATS.contains(&format.as_str()) => Ok(()),
        Some(format) => Err(format!("`{format}`")),
        None => Err("no format".into()),
    }
}
