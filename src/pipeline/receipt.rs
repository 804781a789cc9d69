//! What a picture says of how it was made, read leniently: for making it again.
//!
//! As [`crate::pipeline::Metadata`], but earlier versions and other programs may have left out any field but the
//! prompt. All of it is data: a path or an address in it is a text like any other.

use std::path::Path;

use serde::Deserialize;
use serde::Deserializer;
use serde_json::Map;
use serde_json::Value;

use crate::cache::RecordedOptions;
use crate::error::Error;
use crate::error::Result;
use crate::pipeline::metadata;

/// Bytes of the settings: as JSON values they may take 50 times as much memory. A picture's are some 2 kB
/// and its prompts.
const MOST_BYTES: usize = 512 << 10;

/// The fields of a picture's JSON; `None` is one that is missing. Unknown ones are in `fields` alone.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "the fields of `Metadata`")]
pub struct Receipt {
    /// All of them as they are written.
    #[serde(skip)]
    pub fields: Map<String, Value>,
    pub schema: Option<u32>,
    pub model: Option<String>,
    pub prompt: String,
    pub prompt_2: Option<String>,
    pub width: Option<usize>,
    pub height: Option<usize>,
    pub steps: Option<usize>,
    /// `Some(None)` is that of a model without.
    #[serde(default, deserialize_with = "said")]
    pub guidance: Option<Option<f32>>,
    pub seed: Option<u64>,
    pub rng: Option<String>,
    pub rng_grid: Option<u32>,
    pub dtype: Option<String>,
    pub mode: Option<String>,
    #[serde(default)]
    pub lowered: Vec<String>,
    pub t5_dtype: Option<String>,
    pub cache: Option<String>,
    pub cache_record: Option<RecordedOptions>,
    pub max_sequence_length: Option<usize>,
    /// Pictures of earlier versions were not decoded in tiles.
    #[serde(default)]
    pub vae_tiling: bool,
}

impl Receipt {
    /// Reads the settings in the texts of the picture at `path`.
    ///
    /// # Errors
    /// [`Error::Format`] if there are none or they are damaged; [`Error::Config`] if their schema is not
    /// this program's.
    pub fn read(texts: &[(String, String)], path: &Path) -> Result<Self> {
        let keyword = metadata::JSON_KEYWORD;
        let Some((_, json)) = texts.iter().find(|(found, _)| found == keyword) else {
            let reason = format!(
                "expected a picture of flux-rt with its settings in the text `{keyword}`, found no such \
                 text: another program made this file, or saved it without its texts"
            );
            return Err(Error::Format { path: path.to_owned(), reason });
        };
        if json.len() > MOST_BYTES {
            let reason = format!(
                "expected settings of at most {MOST_BYTES} bytes in the text `{keyword}`, found {}",
                json.len()
            );
            return Err(Error::Format { path: path.to_owned(), reason });
        }
        let damaged = |error| metadata::damaged(path, &error);
        let fields: Map<String, Value> = serde_json::from_str(json).map_err(damaged)?;
        // First, since what another schema means by the other fields is not known.
        if let Some(schema) = fields.get("schema").and_then(Value::as_u64) {
            metadata::check_schema(schema, path)?;
        }
        let receipt: Self = serde_json::from_str(json).map_err(damaged)?;
        Ok(Self { fields, ..receipt })
    }

    /// What the mode computed, as in a plan file, where the picture says it.
    #[must_use]
    pub fn plan(&self) -> Option<&Value> {
        self.fields.get("plan").filter(|plan| !plan.is_null())
    }
}

/// A field that is there, be it null.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Receipt> {
        let texts = [("Title", "x"), (metadata::JSON_KEYWORD, json)];
        let texts = texts.map(|(keyword, text)| (keyword.to_owned(), text.to_owned()));
        Receipt::read(&texts, Path::new("a.png"))
    }

    #[test]
    fn a_prompt_is_enough() {
        let receipt = read(r#"{"prompt":"fox","later":[1]}"#).unwrap();
        assert_eq!((receipt.prompt.as_str(), receipt.seed, receipt.guidance), ("fox", None, None));
        assert!(!receipt.vae_tiling && receipt.fields.contains_key("later"));
        let receipt = read(r#"{"schema":1,"prompt":"","guidance":null,"seed":7}"#).unwrap();
        assert_eq!((receipt.seed, receipt.guidance), (Some(7), Some(None)));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (json, part) in [
            ("", "expected metadata in the text `flux-rt`"),
            ("[]", "expected a map"),
            ("{}", "missing field `prompt`"),
            (r#"{"prompt":"x","seed":-1}"#, "invalid value: integer `-1`"),
            (r#"{"prompt":"x","seed":1e99}"#, "expected u64"),
            (r#"{"prompt":"x","prompt":"y"}"#, "duplicate field"),
            (r#"{"prompt":"x","schema":"1"}"#, "expected u32"),
            (r#"{"prompt":"x","cache_record":{"double":{"later":1}}}"#, "unknown field `later`"),
            (&"[".repeat(1 << 18), "expected a map"),
            (&format!(r#"{{"prompt":"x","plan":{}"#, "[".repeat(1 << 18)), "recursion limit"),
        ] {
            let error = read(json).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "{error}");
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        let long = read(&" ".repeat(MOST_BYTES + 1)).unwrap_err().to_string();
        assert!(long.contains("at most 524288 bytes"), "{long}");
        let error = read(r#"{"schema":2,"prompt":7}"#).unwrap_err().to_string();
        assert!(error.contains("of a newer flux-rt"), "{error}");
        let error = Receipt::read(&[], Path::new("a.png")).unwrap_err().to_string();
        assert!(error.contains("found no such text"), "{error}");
    }
}
