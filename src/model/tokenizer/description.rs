//! What of a `tokenizer.json` turns text into ids, read with a limit for everything that takes memory or
//! time: the `tokenizers` crate would believe it all.

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokenizers::SplitDelimiterBehavior;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;

use crate::model::tokenizer::lists::Added;
use crate::model::tokenizer::lists::Few;
use crate::model::tokenizer::lists::Merges;
use crate::model::tokenizer::lists::Vocab;

/// A `tokenizer.json`; what is not here is not read.
#[derive(Deserialize)]
pub(super) struct Description {
    #[serde(default)]
    pub added_tokens: Added,
    pub normalizer: Option<Part>,
    pub pre_tokenizer: Option<Part>,
    pub model: Model,
}

/// A normalizer or pre-tokenizer: a step, or a sequence of them.
pub(super) type Part = Step<Few<Step>>;

/// What a step changes in a text, with the fields of all kinds; sequences are of steps alone.
#[derive(Deserialize)]
pub(super) struct Step<N = IgnoredAny> {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(alias = "pretokenizers")]
    pub normalizers: Option<N>,
    pub precompiled_charsmap: Option<String>,
    pub strip_left: Option<bool>,
    pub strip_right: Option<bool>,
    pub pattern: Option<Pattern>,
    pub content: Option<String>,
    pub prepend: Option<String>,
    pub behavior: Option<SplitDelimiterBehavior>,
    pub invert: Option<bool>,
    pub replacement: Option<char>,
    pub prepend_scheme: Option<PrependScheme>,
    pub split: Option<bool>,
    pub add_prefix_space: Option<bool>,
    pub trim_offsets: Option<bool>,
    pub use_regex: Option<bool>,
}

impl<N> Step<N> {
    /// A step of that kind, of whose fields none is set.
    pub(super) fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            normalizers: None,
            precompiled_charsmap: None,
            strip_left: None,
            strip_right: None,
            pattern: None,
            content: None,
            prepend: None,
            behavior: None,
            invert: None,
            replacement: None,
            prepend_scheme: None,
            split: None,
            add_prefix_space: None,
            trim_offsets: None,
            use_regex: None,
        }
    }
}

/// What is looked for.
#[derive(Deserialize)]
pub(super) enum Pattern {
    String(String),
    Regex(String),
}

/// The fields of BPE and Unigram.
#[derive(Default, Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub vocab: Option<Vocab>,
    pub merges: Option<Merges>,
    pub unk_id: Option<usize>,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub dropout: Option<f32>,
    pub fuse_unk: Option<bool>,
    pub byte_fallback: Option<bool>,
    pub ignore_merges: Option<bool>,
}

impl Model {
    /// BPE of these tokens and merges, with none of the other fields.
    pub(super) fn bpe(vocab: Vec<(String, u32)>, merges: Vec<(String, String)>) -> Self {
        Self {
            kind: Some("BPE".to_owned()),
            vocab: Some(Vocab::Ids(vocab)),
            merges: Some(Merges(merges)),
            ..Self::default()
        }
    }
}
