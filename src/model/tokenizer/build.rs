//! A tokenizer from its description, with the `tokenizers` crate.

use std::collections::HashSet;

use tokenizers::Tokenizer;
use tokenizers::models::bpe;
use tokenizers::models::bpe::BpeBuilder;
use tokenizers::models::unigram::Unigram;

use crate::error::quoted;
use crate::model::tokenizer::description::Description;
use crate::model::tokenizer::description::Model;
use crate::model::tokenizer::lists::Merges;
use crate::model::tokenizer::lists::Vocab;
use crate::model::tokenizer::patterns::Patterns;
use crate::model::tokenizer::steps;

/// Of the tree of a Unigram vocabulary, which takes some 340 bytes for each; T5's has 82,671.
const MOST_NODES: usize = 120_000;

/// The type of a model, as `tokenizer.json` names it; older files do not say that they are BPE.
pub(super) fn kind(model: &Model) -> String {
    let told = match model.vocab {
        Some(Vocab::Scores(_)) => "Unigram",
        _ if model.merges.is_some() => "BPE",
        _ => "none",
    };
    model.kind.as_deref().map_or_else(|| told.to_owned(), quoted)
}

/// The tokenizer and the largest id that it knows, if any.
pub(super) fn build(description: Description) -> Result<(Tokenizer, Option<u32>), String> {
    let Description { added_tokens, normalizer, pre_tokenizer, model } = description;
    let mut patterns = Patterns::ALL;
    let normalizer = normalizer.map(|part| steps::normalizer(part, &mut patterns)).transpose()?;
    let pre_tokenizer =
        pre_tokenizer.map(|part| steps::pre_tokenizer(part, &mut patterns)).transpose()?;
    let (mut tokenizer, largest) = match model.vocab {
        Some(Vocab::Scores(vocab)) => {
            expect_few_nodes(&vocab)?;
            let largest = vocab.len().checked_sub(1).and_then(|last| u32::try_from(last).ok());
            let bytes = model.byte_fallback.unwrap_or(false);
            let unigram = Unigram::from(vocab, model.unk_id, bytes);
            (Tokenizer::new(unigram.map_err(|error| error.to_string())?), largest)
        }
        Some(Vocab::Ids(_)) => byte_pairs(model)?,
        None => return Err("expected a `vocab`, found none".to_owned()),
    };
    tokenizer.with_normalizer(normalizer);
    tokenizer.with_pre_tokenizer(pre_tokenizer);
    tokenizer.add_tokens(&added_tokens.0);
    let added = tokenizer.get_added_vocabulary().get_vocab().values().max().copied();
    Ok((tokenizer, largest.max(added)))
}

/// Fails if the crate's tree of the vocabulary would be larger than any model's.
fn expect_few_nodes(vocab: &[(String, f64)]) -> Result<(), String> {
    let mut tokens: Vec<&[u8]> = vocab.iter().map(|(token, _)| token.as_bytes()).collect();
    tokens.sort_unstable();
    let shared = |pair: &[&[u8]]| {
        pair[0].iter().zip(pair[1]).take_while(|(before, byte)| before == byte).count()
    };
    let repeated: usize = tokens.windows(2).map(shared).sum();
    let nodes = tokens.iter().map(|token| token.len()).sum::<usize>() - repeated;
    if nodes > MOST_NODES {
        return Err(format!("expected a vocabulary of at most {MOST_NODES} nodes, found {nodes}"));
    }
    Ok(())
}

fn byte_pairs(model: Model) -> Result<(Tokenizer, Option<u32>), String> {
    let (Some(Vocab::Ids(vocab)), Some(Merges(merges))) = (model.vocab, model.merges) else {
        return Err("expected `vocab` and `merges`, found one of them".to_owned());
    };
    // With another prefix the crate cuts merges inside of letters.
    for (field, value, expected) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix, ""),
        ("end_of_word_suffix", &model.end_of_word_suffix, "</w>"),
    ] {
        if let Some(found) = value.as_deref().filter(|found| !["", expected].contains(found)) {
            let found = quoted(found);
            return Err(format!("expected `{expected}` or nothing in `{field}`, found `{found}`"));
        }
    }
    if let Some(dropout) = model.dropout.filter(|dropout| *dropout > 0.0 || dropout.is_nan()) {
        return Err(format!("expected no `dropout`, found {dropout}"));
    }
    let mut names = HashSet::new();
    if let Some((token, _)) = vocab.iter().find(|(token, _)| !names.insert(token.as_str())) {
        return Err(format!("expected each token once, found `{}` twice", quoted(token)));
    }
    drop(names);
    let largest = vocab.iter().map(|(_, id)| *id).max();
    let mut builder = BpeBuilder::new()
        .fuse_unk(model.fuse_unk.unwrap_or(false))
        .byte_fallback(model.byte_fallback.unwrap_or(false))
        .ignore_merges(model.ignore_merges.unwrap_or(false));
    if let Some(unknown) = model.unk_token {
        builder = builder.unk_token(unknown);
    }
    if let Some(prefix) = model.continuing_subword_prefix {
        builder = builder.continuing_subword_prefix(prefix);
    }
    if let Some(suffix) = model.end_of_word_suffix {
        builder = builder.end_of_word_suffix(suffix);
    }
    let vocab: bpe::Vocab = vocab.into_iter().collect();
    let bpe = builder.vocab_and_merges(vocab, merges).build();
    let bpe = bpe.map_err(|error| error.to_string())?;
    Ok((Tokenizer::new(bpe), largest))
}
