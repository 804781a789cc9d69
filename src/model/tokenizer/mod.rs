//! Text to token ids, as transformers 5.17 does it: CLIP (byte-level BPE) and T5 (Unigram).
//!
//! Both run on the `tokenizers` crate without its template, padding and truncation: those are
//! `frame`, so that a prompt's lost end can be counted and reported.

mod build;
mod character_map;
mod clip;
mod description;
mod lists;
mod patterns;
mod steps;
mod t5;

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;

use tokenizers::Tokenizer;

use crate::error::Error;
use crate::error::Result;
use crate::error::json_error;
use crate::model::tokenizer::description::Description;

pub use clip::ClipTokenizer;
pub use t5::T5Tokenizer;

/// A prompt as its encoder takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIds {
    /// Exactly as many ids as were asked for: text, end, padding.
    pub ids: Vec<u32>,
    /// Tokens of the text that found no room, 0 if the encoder reads all of it.
    pub dropped: usize,
}

/// A file's tokenizer and the largest id it knows.
#[derive(Debug)]
struct Vocabulary {
    tokenizer: Tokenizer,
    path: PathBuf,
    largest_id: u32,
}

impl Vocabulary {
    /// `kind` is the model type that the encoder was trained with, as `tokenizer.json` names it.
    fn new(
        description: Description,
        path: &Path,
        kind: &'static str,
        fail: impl Fn(String) -> Error,
    ) -> Result<Self> {
        let found = build::kind(&description.model);
        if found != kind {
            return Err(Error::Config {
                path: path.to_owned(),
                field: "model.type".to_owned(),
                expected: kind.to_owned(),
                actual: found,
            });
        }
        let (tokenizer, largest_id) = guarded(|| build::build(description)).map_err(&fail)?;
        let Some(largest_id) = largest_id else {
            return Err(fail("expected a vocabulary, found no token".to_owned()));
        };
        Ok(Self { tokenizer, path: path.to_owned(), largest_id })
    }

    /// Reads the parts of a `tokenizer.json` that turn text into ids.
    fn from_json(json: &[u8], path: &Path, kind: &'static str) -> Result<Self> {
        let fail = |reason: String| {
            let reason = format!("expected a `tokenizer.json`: {reason}");
            Error::Format { path: path.to_owned(), reason }
        };
        let description = serde_json::from_slice(json).map_err(|error| fail(json_error(&error)))?;
        Self::new(description, path, kind, fail)
    }

    /// The id of a token that the encoder cannot do without.
    fn id_of(&self, token: &str) -> Result<u32> {
        self.tokenizer.token_to_id(token).ok_or_else(|| Error::Config {
            path: self.path.clone(),
            field: "vocab".to_owned(),
            expected: format!("a token `{token}`"),
            actual: "none".to_owned(),
        })
    }

    /// The ids of the text alone.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encode = || self.tokenizer.encode_fast(text, false).map_err(|error| error.to_string());
        let encoding = guarded(encode).map_err(|error| Error::Format {
            path: self.path.clone(),
            reason: format!("expected a vocabulary that covers the prompt: {error}"),
        })?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// The crate trusts its files. Where it is known to panic over one, the file is refused before; what is
/// left becomes an error, for a file is input.
fn guarded<T>(
    call: impl FnOnce() -> std::result::Result<T, String>,
) -> std::result::Result<T, String> {
    // Nothing that the call could leave half done outlives it but a cache, which holds whole words.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| Err("the file is damaged".to_owned()))
}

/// `start`, as much of the text as fits, `end`, and `pad` up to `length`.
fn frame(text: &[u32], start: Option<u32>, end: u32, pad: u32, length: usize) -> Result<TokenIds> {
    let marks = 1 + usize::from(start.is_some());
    let Some(room) = length.checked_sub(marks) else {
        let reason = format!("expected at least {marks} tokens, found {length}");
        return Err(Error::Request { field: "max_sequence_length", reason });
    };
    let kept = &text[..text.len().min(room)];
    let mut ids: Vec<u32> = start.into_iter().chain(kept.iter().copied()).collect();
    ids.push(end);
    ids.resize(length, pad);
    Ok(TokenIds { ids, dropped: text.len() - kept.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_pads_and_cuts_and_keeps_the_end() {
        let ids = |text: &[u32], start, length| frame(text, start, 9, 0, length).unwrap();
        assert_eq!(ids(&[1, 2], Some(8), 6), TokenIds { ids: vec![8, 1, 2, 9, 0, 0], dropped: 0 });
        assert_eq!(ids(&[1, 2], Some(8), 4), TokenIds { ids: vec![8, 1, 2, 9], dropped: 0 });
        assert_eq!(ids(&[1, 2, 3], Some(8), 4), TokenIds { ids: vec![8, 1, 2, 9], dropped: 1 });
        assert_eq!(ids(&[1, 2, 3], None, 1), TokenIds { ids: vec![9], dropped: 3 });
        assert_eq!(ids(&[], None, 2), TokenIds { ids: vec![9, 0], dropped: 0 });
        let error = frame(&[], Some(8), 9, 0, 1).unwrap_err().to_string();
        assert_eq!(error, "max_sequence_length: expected at least 2 tokens, found 1");
    }
}
