//! T5's tokenizer: SentencePiece Unigram, everything about it read from `tokenizer.json`.
//!
//! Source: `T5Tokenizer` of transformers 5.17 (`models/t5/tokenization_t5.py`), which splits at white
//! space whatever the file says, as older files do: a file that only joins it (`Metaspace` alone)
//! differs here in U+0085, the one white space that the character map keeps.

use std::path::Path;

use crate::error::Result;
use crate::model::tokenizer::TokenIds;
use crate::model::tokenizer::Vocabulary;
use crate::model::tokenizer::frame;

/// The tokenizer of the T5 encoder.
#[derive(Debug)]
pub struct T5Tokenizer {
    vocabulary: Vocabulary,
    end: u32,
    pad: u32,
}

impl T5Tokenizer {
    /// From a `tokenizer.json`.
    ///
    /// # Errors
    /// [`crate::Error::Format`] or [`crate::Error::Config`], naming the file: not such a file, not a
    /// Unigram vocabulary, no `</s>` or no `<pad>`.
    pub fn from_json(json: &[u8], path: &Path) -> Result<Self> {
        let vocabulary = Vocabulary::from_json(json, path, "Unigram")?;
        let (end, pad) = (vocabulary.id_of("</s>")?, vocabulary.id_of("<pad>")?);
        Ok(Self { vocabulary, end, pad })
    }

    /// Text, end, and padding up to `max_length`; what does not fit is dropped before the end.
    ///
    /// # Errors
    /// [`crate::Error::Request`] if `max_length` is 0; [`crate::Error::Format`] if the file's
    /// vocabulary fails on the text.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<TokenIds> {
        frame(&self.vocabulary.encode(text)?, None, self.end, self.pad, max_length)
    }

    /// The largest id: the token embedding must have more rows than that.
    #[must_use]
    pub fn largest_id(&self) -> u32 {
        self.vocabulary.largest_id
    }
}
