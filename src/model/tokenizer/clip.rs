//! CLIP's tokenizer: NFC, one space, lower case; words, single digits and runs of signs; their bytes
//! as byte-level BPE whose last symbol of a word carries `</w>`.
//!
//! Source: `CLIPTokenizer` of transformers 5.17 (`models/clip/tokenization_clip.py`).

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

use crate::error::Error;
use crate::error::Result;
use crate::model::tokenizer::TokenIds;
use crate::model::tokenizer::Vocabulary;
use crate::model::tokenizer::frame;
use crate::model::tokenizer::parse;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// The two marks, then what English puts after an apostrophe, words, single digits, other signs.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The tokenizer of CLIP's text model.
#[derive(Debug)]
pub struct ClipTokenizer {
    vocabulary: Vocabulary,
    start: u32,
    end: u32,
}

impl ClipTokenizer {
    /// From the two files of the diffusers layout: `vocab.json`, token to id, and `merges.txt`, a
    /// version line, if any, and then one pair a line, most frequent first.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Config`], naming the file: not such a file, a merge of tokens
    /// that the vocabulary lacks, no start or end token, an end token that is not the largest id.
    pub fn from_vocab_and_merges(
        vocab: &[u8],
        vocab_path: &Path,
        merges: &[u8],
        merges_path: &Path,
    ) -> Result<Self> {
        let vocab: Value = serde_json::from_slice(vocab).map_err(|error| Error::Format {
            path: vocab_path.to_owned(),
            reason: format!("expected a JSON object of tokens and ids: {error}"),
        })?;
        let merges = parse_merges(merges, merges_path)?;
        expect_all_merges(&vocab, &merges, merges_path)?;
        let description = description(&vocab, &merges, vocab_path)?;
        let tokenizer = parse(description).map_err(|error| Error::Format {
            path: vocab_path.to_owned(),
            reason: format!("does not go with {}: {error}", merges_path.display()),
        })?;
        Self::new(Vocabulary::new(tokenizer, vocab_path, "BPE")?)
    }

    /// From a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Self::from_vocab_and_merges`].
    pub fn from_json(json: &[u8], path: &Path) -> Result<Self> {
        Self::new(Vocabulary::from_json(json, path, "BPE")?)
    }

    fn new(vocabulary: Vocabulary) -> Result<Self> {
        let (start, end) = (vocabulary.id_of(START)?, vocabulary.id_of(END)?);
        // The encoder finds the end of a text by looking for the largest id.
        if end != vocabulary.largest_id {
            return Err(Error::Config {
                path: vocabulary.path,
                field: END.to_owned(),
                expected: format!("the largest id, {}", vocabulary.largest_id),
                actual: end.to_string(),
            });
        }
        Ok(Self { vocabulary, start, end })
    }

    /// Start, text, end, and ends up to `max_length`; what does not fit is dropped before the end.
    ///
    /// # Errors
    /// [`Error::Request`] if `max_length` is below 2; [`Error::Format`] if the file's vocabulary
    /// fails on the text.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<TokenIds> {
        let text = self.vocabulary.encode(text)?;
        frame(&text, Some(self.start), self.end, self.end, max_length)
    }

    /// The id that ends a text and pads it.
    #[must_use]
    pub fn end_id(&self) -> u32 {
        self.end
    }

    /// The largest id: the token embedding must have more rows than that.
    #[must_use]
    pub fn largest_id(&self) -> u32 {
        self.vocabulary.largest_id
    }
}

/// The pairs of `merges.txt`, whose first line may be a version.
fn parse_merges(merges: &[u8], path: &Path) -> Result<Vec<[String; 2]>> {
    let fail = |reason| Error::Format { path: path.to_owned(), reason };
    let text = std::str::from_utf8(merges)
        .map_err(|error| fail(format!("expected UTF-8 text: {error}")))?;
    let is_pair =
        |index: usize, line: &str| !line.is_empty() && (index > 0 || !line.contains("#version:"));
    text.lines()
        .enumerate()
        .filter(|&(index, line)| is_pair(index, line))
        .map(|(index, line)| match line.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                Ok([left.to_owned(), right.to_owned()])
            }
            _ => Err(fail(format!("line {}: expected two tokens, found `{line}`", index + 1))),
        })
        .collect()
}

/// Fails if the vocabulary has tokens of several letters that no merge makes: the end of the merges is
/// missing, and texts would silently become other tokens.
fn expect_all_merges(vocab: &Value, merges: &[[String; 2]], path: &Path) -> Result<()> {
    let made: HashSet<String> = merges.iter().map(|pair| pair.concat()).collect();
    let is_one = |token: &str| token.strip_suffix("</w>").unwrap_or(token).chars().count() <= 1;
    let known =
        |token: &str| is_one(token) || token == START || token == END || made.contains(token);
    let mut tokens = vocab.as_object().into_iter().flat_map(|tokens| tokens.keys());
    match tokens.find(|token| !known(token)) {
        Some(token) => Err(Error::Format {
            path: path.to_owned(),
            reason: format!(
                "cut short: expected a merge that makes each token of the vocabulary, found {} \
                 merges and none that makes `{token}`",
                merges.len()
            ),
        }),
        None => Ok(()),
    }
}

/// The `tokenizer.json` that transformers would write for these two files.
fn description(vocab: &Value, merges: &[[String; 2]], path: &Path) -> Result<Value> {
    let mark = |token: &str| -> Result<Value> {
        let id = vocab.get(token).ok_or_else(|| Error::Config {
            path: path.to_owned(),
            field: token.to_owned(),
            expected: "an id".to_owned(),
            actual: "none".to_owned(),
        })?;
        Ok(json!({ "id": id, "content": token, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false }))
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": [mark(START)?, mark(END)?],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
            { "type": "Lowercase" },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": WORDS }, "behavior": "Removed", "invert": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": true },
        ] },
        "model": { "type": "BPE", "unk_token": END, "end_of_word_suffix": "</w>",
            "vocab": vocab, "merges": merges },
    }))
}
