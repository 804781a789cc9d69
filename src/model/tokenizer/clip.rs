//! CLIP's tokenizer: NFC, one space, lower case; words, single digits and runs of signs; their bytes
//! as byte-level BPE whose last symbol of a word carries `</w>`.
//!
//! Source: `CLIPTokenizer` of transformers 5.17 (`models/clip/tokenization_clip.py`).

use std::collections::HashSet;
use std::path::Path;

use tokenizers::AddedToken;
use tokenizers::SplitDelimiterBehavior;

use crate::error::Error;
use crate::error::Result;
use crate::error::json_error;
use crate::error::quoted;
use crate::model::tokenizer::TokenIds;
use crate::model::tokenizer::Vocabulary;
use crate::model::tokenizer::description::Description;
use crate::model::tokenizer::description::Model;
use crate::model::tokenizer::description::Part;
use crate::model::tokenizer::description::Pattern;
use crate::model::tokenizer::description::Step;
use crate::model::tokenizer::frame;
use crate::model::tokenizer::lists::Added;
use crate::model::tokenizer::lists::Few;
use crate::model::tokenizer::lists::Room;
use crate::model::tokenizer::lists::Vocab;

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
        let fail = |reason| Error::Format { path: vocab_path.to_owned(), reason };
        let object = |found| fail(format!("expected a JSON object of tokens and ids: {found}"));
        let vocab = match serde_json::from_slice(vocab) {
            Ok(Vocab::Ids(vocab)) => vocab,
            Ok(Vocab::Scores(_)) => return Err(object("found a list".to_owned())),
            Err(error) => return Err(object(json_error(&error))),
        };
        let merges = parse_merges(merges, merges_path)?;
        expect_marks(&vocab, vocab_path)?;
        expect_all_merges(&vocab, &merges, merges_path)?;
        let fail =
            |error: String| fail(format!("does not go with {}: {error}", merges_path.display()));
        Self::new(Vocabulary::new(description(vocab, merges), vocab_path, "BPE", fail)?)
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
fn parse_merges(merges: &[u8], path: &Path) -> Result<Vec<(String, String)>> {
    let fail = |reason| Error::Format { path: path.to_owned(), reason };
    let text = std::str::from_utf8(merges)
        .map_err(|error| fail(format!("expected UTF-8 text: {error}")))?;
    let is_pair =
        |index: usize, line: &str| !line.is_empty() && (index > 0 || !line.contains("#version:"));
    let mut room = Room::LIST;
    text.lines()
        .enumerate()
        .filter(|&(index, line)| is_pair(index, line))
        .map(|(index, line)| match line.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                room.take([left, right]).map_err(fail)?;
                Ok((left.to_owned(), right.to_owned()))
            }
            _ => {
                let found = quoted(line);
                Err(fail(format!("line {}: expected two tokens, found `{found}`", index + 1)))
            }
        })
        .collect()
}

/// Fails if the vocabulary has tokens of several letters that no merge makes: the end of the merges is
/// missing, and texts would silently become other tokens.
fn expect_all_merges(
    vocab: &[(String, u32)],
    merges: &[(String, String)],
    path: &Path,
) -> Result<()> {
    let made: HashSet<String> = merges.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let is_one = |token: &str| token.strip_suffix("</w>").unwrap_or(token).chars().count() <= 1;
    let known =
        |token: &str| is_one(token) || token == START || token == END || made.contains(token);
    match vocab.iter().find(|(token, _)| !known(token)) {
        Some((token, _)) => Err(Error::Format {
            path: path.to_owned(),
            reason: format!(
                "cut short: expected a merge that makes each token of the vocabulary, found {} \
                 merges and none that makes `{}`",
                merges.len(),
                quoted(token)
            ),
        }),
        None => Ok(()),
    }
}

/// Fails if the vocabulary lacks one of the marks, which would get an id of their own.
fn expect_marks(vocab: &[(String, u32)], path: &Path) -> Result<()> {
    match [START, END].into_iter().find(|mark| vocab.iter().all(|(token, _)| token != mark)) {
        Some(mark) => Err(Error::Config {
            path: path.to_owned(),
            field: mark.to_owned(),
            expected: "an id".to_owned(),
            actual: "none".to_owned(),
        }),
        None => Ok(()),
    }
}

/// What the `tokenizer.json` says that transformers would write for these two files.
fn description(vocab: Vec<(String, u32)>, merges: Vec<(String, String)>) -> Description {
    let mark = |content: &str| AddedToken::from(content, true);
    let regex = |regex: &str| Some(Pattern::Regex(regex.to_owned()));
    let replace =
        Step { pattern: regex(r"\s+"), content: Some(" ".to_owned()), ..Step::new("Replace") };
    let split = Step {
        pattern: regex(WORDS),
        behavior: Some(SplitDelimiterBehavior::Removed),
        invert: Some(true),
        ..Step::new("Split")
    };
    let bytes = Step { add_prefix_space: Some(false), ..Step::new("ByteLevel") };
    let sequence = |steps| Part { normalizers: Some(Few(steps)), ..Step::new("Sequence") };
    Description {
        added_tokens: Added(vec![mark(START), mark(END)]),
        normalizer: Some(sequence(vec![Step::new("NFC"), replace, Step::new("Lowercase")])),
        pre_tokenizer: Some(sequence(vec![split, bytes])),
        model: Model {
            unk_token: Some(END.to_owned()),
            end_of_word_suffix: Some("</w>".to_owned()),
            ..Model::bpe(vocab, merges)
        },
    }
}
