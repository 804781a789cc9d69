//! Prompt to text states: both tokenizers and encoders, and a small memory of past prompts.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::clip;
use crate::model::t5;
use crate::pipeline::Generated;
use crate::pipeline::Settings;
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

/// What decides the states: CLIP's text, T5's text, T5's length, and whether diffusers' roundings are repeated.
type Key = (String, String, usize, bool);

/// The states of the last few prompts.
#[derive(Debug, Default)]
pub(crate) struct PromptCache {
    entries: VecDeque<(Key, Arc<Encoded>)>,
}

impl PromptCache {
    /// The states of a request's prompts, computed or remembered; those of mode `original` are others, since the
    /// encoders round where diffusers does.
    pub(crate) fn encode(
        &mut self,
        components: &Components,
        settings: &Settings,
        original: bool,
    ) -> Result<Arc<Encoded>> {
        let prompt_2 = settings.prompt_2.as_ref().unwrap_or(&settings.prompt);
        let length = settings.max_sequence_length;
        let key = (settings.prompt.clone(), prompt_2.clone(), length, original);
        if let Some((_, encoded)) = self.entries.iter().find(|(other, _)| *other == key) {
            return Ok(Arc::clone(encoded));
        }
        let encoded = Arc::new(encode(components, &key)?);
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back((key, Arc::clone(&encoded)));
        Ok(encoded)
    }
}

fn encode(components: &Components, (prompt, prompt_2, t5_length, _): &Key) -> Result<Encoded> {
    let clip_length = components.clip.config.max_position_embeddings;
    let clip_tokens = components.clip_tokenizer.encode(prompt, clip_length)?;
    let pooled = clip::encode(&components.device, &components.clip, &clip_tokens.ids)?;
    let t5_tokens = components.t5_tokenizer.encode(prompt_2, *t5_length)?;
    let txt = t5::encode(&components.device, &components.t5, &t5_tokens.ids)?;
    Ok(Encoded { txt, pooled, dropped: [clip_tokens.dropped, t5_tokens.dropped] })
}

impl Generated {
    /// What of the prompt was not read, in sentences.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let encoders = ["CLIP", "T5"].into_iter().zip(self.dropped_tokens);
        let cut = encoders.filter(|(_, dropped)| *dropped > 0);
        cut.map(|(encoder, dropped)| {
            format!("{encoder} cut the last {dropped} tokens of the prompt")
        })
        .collect()
    }
}
