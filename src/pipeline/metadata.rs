//! The settings of a picture, as they are written into it: a text that other programs read, and all
//! of them as JSON.
//!
//! Nothing that changes from run to run belongs here: the same settings give the same file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::cache::CacheOptions;
use crate::cache::CacheRecord;
use crate::cache::Preset;
use crate::error::Error;
use crate::error::Result;
use crate::error::json_error;
use crate::ops::noise::Grid;
use crate::pipeline::Engine;
use crate::pipeline::Generated;
use crate::pipeline::RgbImage;
use crate::pipeline::Rng;
use crate::pipeline::image;

/// The keyword of the text that other programs read.
pub const PARAMETERS_KEYWORD: &str = "parameters";
/// The keyword of the JSON.
pub const JSON_KEYWORD: &str = "flux-rt";
/// What [`Metadata::schema`] is today; a change that an older reader would misread raises it.
pub const SCHEMA: u32 = 1;
/// Where the noise came from if the program that called the library brought it.
const OWN_LATENTS: &str = "latents of the caller";

/// Everything that decides a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metadata {
    /// The version of this structure, [`SCHEMA`].
    pub schema: u32,
    /// The program's version, like `0.1.0`.
    pub program_version: String,
    /// The model as the user named it.
    pub model: String,
    /// SHA-256 of each weight file, in hexadecimal, by its path in the model; may be empty.
    pub weights: BTreeMap<String, String>,
    /// The prompt.
    pub prompt: String,
    /// Another text for T5, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_2: Option<String>,
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Distilled guidance strength; none for a model without.
    pub guidance: Option<f32>,
    /// The seed of this picture.
    pub seed: u64,
    /// Where the noise came from, as `--rng` names it, or the file of latents.
    pub rng: String,
    /// Blocks of the noise generator's grid, where it has one.
    pub rng_grid: Option<u32>,
    /// The dtype of activations and noise.
    pub dtype: String,
    /// What computed it: `cpu` or the GPU's name.
    pub device: String,
    /// Which kernels of the GPU: `sm90`, or `portable`, those of every card; none on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The elastic mode.
    pub mode: String,
    /// What the mode computed, as in a plan file, where it is not what is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<serde_json::Value>,
    /// Parts of the mode that ran in `dtype` for want of kernels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lowered: Vec<String>,
    /// What T5 computed in, where to save memory it was not `dtype`: `e4m3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t5_dtype: Option<String>,
    /// The cache: `none`, a preset, or `custom`.
    pub cache: String,
    /// Every option of the cache and what it decided; none without a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_record: Option<CacheRecord>,
    /// T5 tokens.
    pub max_sequence_length: usize,
    /// Whether the VAE was told to decode in tiles; pictures of earlier versions were not.
    #[serde(default)]
    pub vae_tiling: bool,
}

impl Metadata {
    /// The text that image viewers and other image generators show: the prompt, then one line of
    /// names and values.
    #[must_use]
    pub fn parameters_text(&self) -> String {
        // PNG texts hold no NUL; the JSON keeps it, escaped.
        let prompt = self.prompt.replace('\0', " ");
        let guidance = self.guidance.map(|guidance| format!(", Guidance: {guidance:?}"));
        format!(
            "{prompt}\nSteps: {}, Sampler: Euler{}, Seed: {}, Size: {}x{}, Model: {}, \
             Version: flux-rt {}",
            self.steps,
            guidance.unwrap_or_default(),
            self.seed,
            self.width,
            self.height,
            quoted(&self.model),
            self.program_version,
        )
    }

    /// The JSON chunk, one line.
    ///
    /// # Errors
    /// [`Error::Request`] if a number is none that JSON has.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Request {
            field: "metadata",
            reason: format!("expected numbers and texts that JSON has: {error}"),
        })
    }

    /// Keyword and text of both chunks, as [`crate::pipeline::image::encode_png`] takes them.
    ///
    /// # Errors
    /// As [`Self::to_json`].
    pub fn texts(&self) -> Result<[(&'static str, String); 2]> {
        Ok([(PARAMETERS_KEYWORD, self.parameters_text()), (JSON_KEYWORD, self.to_json()?)])
    }

    /// Reads the JSON chunk; `path` is the picture, for messages. Fields of later versions are
    /// ignored as long as the schema is the same.
    ///
    /// # Errors
    /// [`Error::Format`] if the JSON is damaged; [`Error::Config`] if its schema is not this one.
    pub fn from_json(json: &str, path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            schema: u64,
        }
        let damaged = |error| damaged(path, &error);
        let Version { schema } = serde_json::from_str(json).map_err(damaged)?;
        check_schema(schema, path)?;
        serde_json::from_str(json).map_err(damaged)
    }
}

impl Metadata {
    /// The picture as a PNG that holds them.
    ///
    /// # Errors
    /// As [`Self::to_json`] and [`image::encode_png`].
    pub fn encode(&self, picture: &RgbImage) -> Result<Vec<u8>> {
        let texts = self.texts()?;
        let texts = texts.each_ref().map(|(keyword, text)| (*keyword, text.as_str()));
        image::encode_png(picture, &texts)
    }
}

impl Engine {
    /// All that is needed to make a picture again that was made with this engine, from the noise of its seed
    /// or from the latents in a file. `model` is what the user calls the model.
    ///
    /// # Errors
    /// As [`Engine::weight_digests`]; [`Error::Request`] for a picture in a mode that the engine is without.
    pub fn metadata(
        &mut self,
        model: &str,
        latents_file: Option<&Path>,
        made: &Generated,
    ) -> Result<Metadata> {
        let weights = self.weight_digests()?.iter().cloned().collect();
        self.metadata_with(weights, model, latents_file, made)
    }

    /// As [`Self::metadata`], with digests that were computed before, or none.
    ///
    /// # Errors
    /// [`Error::Request`] for a picture in a mode that the engine is without.
    pub(crate) fn metadata_with(
        &self,
        weights: BTreeMap<String, String>,
        model: &str,
        latents_file: Option<&Path>,
        made: &Generated,
    ) -> Result<Metadata> {
        let settings = &made.settings;
        let mode = self.loaded(&made.mode)?;
        let (rng, rng_grid) = match settings.own_latents && latents_file.is_none() {
            true => (OWN_LATENTS.to_owned(), None),
            false => noise(latents_file, settings.rng),
        };
        Ok(Metadata {
            schema: SCHEMA,
            program_version: env!("CARGO_PKG_VERSION").into(),
            model: model.to_owned(),
            weights,
            prompt: settings.prompt.clone(),
            prompt_2: settings.prompt_2.clone(),
            width: settings.width,
            height: settings.height,
            steps: settings.steps,
            guidance: settings.guidance,
            seed: settings.seed,
            rng,
            rng_grid,
            dtype: self.precision_of(&made.mode)?.dtype.to_string(),
            device: self.device_name(),
            tier: self.tier().map(str::to_owned),
            mode: made.mode.to_string(),
            plan: mode.own_plan(),
            lowered: mode.all_lowered().into_iter().map(str::to_owned).collect(),
            t5_dtype: self.t5_dtype().map(str::to_owned),
            cache: cache_name(settings.cache.as_ref()),
            cache_record: made.cache_record(),
            max_sequence_length: settings.max_sequence_length,
            vae_tiling: settings.vae_tiling,
        })
    }
}

/// The name of a cache: a preset's, or `custom`.
pub(crate) fn cache_name(cache: Option<&CacheOptions>) -> String {
    cache.map_or_else(|| Preset::None.to_string(), CacheOptions::name)
}

/// Where the noise came from: a file of latents, or a generator with its grid.
pub(crate) fn noise(latents_file: Option<&Path>, rng: Rng) -> (String, Option<u32>) {
    match (latents_file, rng) {
        (Some(path), _) => (path.display().to_string(), None),
        (None, Rng::TorchCuda { grid }) => (rng.to_string(), grid.map(Grid::blocks)),
        (None, Rng::TorchCpu | Rng::TorchCpuLegacy) => (rng.to_string(), None),
    }
}

/// Fails unless metadata of that schema are what this program reads.
pub(super) fn check_schema(schema: u64, path: &Path) -> Result<()> {
    if schema == u64::from(SCHEMA) {
        return Ok(());
    }
    let newer = if schema > SCHEMA.into() { ", of a newer flux-rt than this" } else { "" };
    Err(Error::Config {
        path: path.to_owned(),
        field: "schema".to_owned(),
        expected: SCHEMA.to_string(),
        actual: format!("{schema}{newer}"),
    })
}

/// The error of metadata that are no such JSON.
pub(super) fn damaged(path: &Path, error: &serde_json::Error) -> Error {
    Error::Format {
        path: path.to_owned(),
        reason: format!("expected metadata in the text `{JSON_KEYWORD}`: {}", json_error(error)),
    }
}

/// A value with a comma, colon, quote or line break would end early: then it is written as JSON.
fn quoted(value: &str) -> String {
    if value.contains([',', ':', '"', '\n', '\0']) {
        return serde_json::Value::from(value).to_string();
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        Metadata {
            schema: SCHEMA,
            program_version: "0.1.0".to_owned(),
            model: "demo".to_owned(),
            weights: BTreeMap::from([("vae/model.safetensors".to_owned(), "00ff".to_owned())]),
            prompt: "a red fox, naïve".to_owned(),
            prompt_2: None,
            width: 128,
            height: 64,
            steps: 28,
            guidance: Some(3.5),
            seed: 42,
            rng: "torch-cuda".to_owned(),
            rng_grid: Some(1056),
            dtype: "bf16".to_owned(),
            device: "cpu".to_owned(),
            tier: Some("sm90".to_owned()),
            mode: "XL".to_owned(),
            plan: Some(
                serde_json::json!({ "version": 1, "name": "S", "double": [], "single": [] }),
            ),
            lowered: vec!["attention".to_owned()],
            t5_dtype: Some("e4m3".to_owned()),
            cache: "none".to_owned(),
            cache_record: None,
            max_sequence_length: 64,
            vae_tiling: true,
        }
    }

    #[test]
    fn parameters_are_what_other_programs_read() {
        assert_eq!(
            metadata().parameters_text(),
            "a red fox, naïve\nSteps: 28, Sampler: Euler, Guidance: 3.5, Seed: 42, Size: 128x64, \
             Model: demo, Version: flux-rt 0.1.0"
        );
        let schnell = Metadata {
            guidance: None,
            model: "C:\\models, old".to_owned(),
            prompt: "a\0b".to_owned(),
            ..metadata()
        };
        assert_eq!(
            schnell.parameters_text(),
            "a b\nSteps: 28, Sampler: Euler, Seed: 42, Size: 128x64, Model: \"C:\\\\models, old\", \
             Version: flux-rt 0.1.0"
        );
    }

    #[test]
    fn json_comes_back_and_is_one_fixed_line() {
        let metadata = Metadata { seed: u64::MAX, prompt: "\"狐\"\n\0".to_owned(), ..metadata() };
        let json = metadata.to_json().unwrap();
        assert!(json.starts_with(r#"{"schema":1,"program_version":"0.1.0","model":"demo","#));
        assert!(json.contains(r#""guidance":3.5,"seed":18446744073709551615,"rng":"torch-cuda""#));
        assert!(!json.contains(['\n', '\0']));
        assert_eq!(Metadata::from_json(&json, Path::new("a.png")).unwrap(), metadata);
        let earlier = json.replace(",\"vae_tiling\":true", "");
        let earlier = Metadata::from_json(&earlier, Path::new("a.png")).unwrap();
        assert_eq!(earlier, Metadata { vae_tiling: false, ..metadata.clone() });
        let later = json.replacen('{', r#"{"later":[1],"#, 1);
        assert_eq!(Metadata::from_json(&later, Path::new("a.png")).unwrap(), metadata);
    }

    #[test]
    fn foreign_json_is_refused() {
        let json = metadata().to_json().unwrap().replacen("\"schema\":1", "\"schema\":2", 1);
        let error = Metadata::from_json(&json, Path::new("a.png")).unwrap_err().to_string();
        assert_eq!(
            error,
            "a.png: field `schema`: expected 1, found 2, of a newer flux-rt than this"
        );
        for json in ["", "[]", "{}", r#"{"schema":1}"#] {
            let error = Metadata::from_json(json, Path::new("a.png")).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "{error}");
        }
    }
}
