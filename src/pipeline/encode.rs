//! Prompt to text states: both tokenizers and encoders, and a small memory of past prompts.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::clip;
use crate::model::t5;
use crate::pipeline::load::Components;

/// Prompts whose states are kept: `--count` and comparisons come back to the same ones.
const KEPT: usize = 8;

/// What the transformer is told about a prompt.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// `[L, joint_attention_dim]`.
    pub(crate) txt: Tensor<Act, 2>,
    /// `[1, pooled_projection_dim]`.
    pub(crate) pooled: Tensor<Act, 2>,
    /// Tokens that did not fit: CLIP's, T5's.
    pub(crate) dropped: [usize; 2],
}

/// A prompt and the length it was encoded for.
type Key = (String, usize);

/// The states of the last few prompts.
#[derive(Debug, Default)]
pub(crate) struct PromptCache {
    entries: VecDeque<(Key, Rc<Encoded>)>,
}

impl PromptCache {
    /// The states of `prompt` in `max_sequence_length` T5 tokens, computed or remembered.
    pub(crate) fn encode(
        &mut self,
        components: &Components,
        prompt: &str,
        max_sequence_length: usize,
    ) -> Result<Rc<Encoded>> {
        let same = |((text, length), _): &&(Key, Rc<Encoded>)| {
            text == prompt && *length == max_sequence_length
        };
        if let Some((_, encoded)) = self.entries.iter().find(same) {
            return Ok(Rc::clone(encoded));
        }
        let encoded = Rc::new(encode(components, prompt, max_sequence_length)?);
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        let key = (prompt.to_owned(), max_sequence_length);
        self.entries.push_back((key, Rc::clone(&encoded)));
        Ok(encoded)
    }
}

fn encode(
    components: &Components,
    prompt: &str,
    max_sequence_length: usize,
) -> Result<Encoded> {
    let clip_tokens = components.clip_tokenizer.encode(prompt)?;
    let pooled = clip::encode(&components.clip, &clip_tokens.ids)?;
    let t5_tokens = components.t5_tokenizer.encode(prompt, max_sequence_length)?;
    let ids = Tensor::from_host([t5_tokens.ids.len()], t5_tokens.ids);
    let txt = t5::encode(&components.t5, &ids)?;
    Ok(Encoded { txt, pooled, dropped: [clip_tokens.dropped, t5_tokens.dropped] })
}
