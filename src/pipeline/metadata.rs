//! The settings of a picture, as they are written into it: a text that other programs read, and all
//! of them as JSON.
//!
//! Nothing that changes from run to run belongs here: the same settings give the same file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::cache::CacheRecord;
use crate::error::Error;
use crate::error::Result;

/// The keyword of the text that other programs read.
pub const PARAMETERS_KEYWORD: &str = "parameters";
/// The keyword of the JSON.
pub const JSON_KEYWORD: &str = "flux-rt";
/// What [`Metadata::schema`] is today; a change that an older reader would misread raises it.
pub const SCHEMA: u32 = 1;

/// Everything that decides a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
            schema: u32,
        }
        let damaged = |error: serde_json::Error| Error::Format {
            path: path.to_owned(),
            reason: format!("expected metadata in the text `{JSON_KEYWORD}`: {error}"),
        };
        let Version { schema } = serde_json::from_str(json).map_err(damaged)?;
        if schema != SCHEMA {
            return Err(Error::Config {
                path: path.to_owned(),
                field: "schema".to_owned(),
                expected: SCHEMA.to_string(),
                actual: schema.to_string(),
            });
        }
        serde_json::from_str(json).map_err(damaged)
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
        assert_eq!(error, "a.png: field `schema`: expected 1, found 2");
        for json in ["", "[]", "{}", r#"{"schema":1}"#] {
            let error = Metadata::from_json(json, Path::new("a.png")).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "{error}");
        }
    }
}
