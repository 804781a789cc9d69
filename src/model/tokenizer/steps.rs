//! The steps of a normalizer or pre-tokenizer that FLUX.1's tokenizers have; others are refused, since some
//! make a text, or the time that it takes, grow without end.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokenizers::normalizers;
use tokenizers::normalizers::Lowercase;
use tokenizers::normalizers::NFC;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::normalizers::Precompiled;
use tokenizers::normalizers::Prepend;
use tokenizers::normalizers::Replace;
use tokenizers::normalizers::Strip;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::Metaspace;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::Split;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;

use crate::error::quoted;
use crate::model::tokenizer::character_map;
use crate::model::tokenizer::description::Part;
use crate::model::tokenizer::description::Pattern;
use crate::model::tokenizer::description::Step;
use crate::model::tokenizer::lists::Few;
use crate::model::tokenizer::patterns::Patterns;

/// Of steps that replace something; CLIP and T5 have one.
const MOST_REPLACES: usize = 3;
/// The normalizer; `patterns` are those of the whole file.
pub(super) fn normalizer(part: Part, patterns: &mut Patterns) -> Result<NormalizerWrapper, String> {
    let Step { normalizers: Some(Few(steps)), .. } = part else {
        return normalizing(part, patterns);
    };
    expect_sequence(&part.kind)?;
    for kind in steps.iter().map(|step| step.kind.as_str()) {
        let most = if kind == "Replace" { MOST_REPLACES } else { 1 };
        if steps.iter().filter(|step| step.kind == kind).count() > most {
            let kind = quoted(kind);
            return Err(format!("expected a normalizer with at most {most} `{kind}`, found more"));
        }
    }
    let steps = steps.into_iter().map(|step| normalizing(step, patterns));
    Ok(normalizers::Sequence::new(steps.collect::<Result<_, _>>()?).into())
}

/// The pre-tokenizer, as [`normalizer`].
pub(super) fn pre_tokenizer(
    part: Part,
    patterns: &mut Patterns,
) -> Result<PreTokenizerWrapper, String> {
    let Step { normalizers: Some(Few(steps)), .. } = part else {
        return splitting(part, patterns);
    };
    expect_sequence(&part.kind)?;
    let steps = steps.into_iter().map(|step| splitting(step, patterns));
    Ok(Sequence::new(steps.collect::<Result<_, _>>()?).into())
}

fn expect_sequence(kind: &str) -> Result<(), String> {
    match kind {
        "Sequence" => Ok(()),
        other => Err(format!("expected steps in a Sequence, found some in `{}`", quoted(other))),
    }
}

fn normalizing<N>(step: Step<N>, patterns: &mut Patterns) -> Result<NormalizerWrapper, String> {
    let lacks = |field: &str| format!("expected `{field}` in a step {}, found none", step.kind);
    Ok(match step.kind.as_str() {
        "NFC" => NFC.into(),
        "Lowercase" => Lowercase.into(),
        "Precompiled" => {
            let map = step.precompiled_charsmap.as_deref();
            let map = map.and_then(|map| BASE64_STANDARD.decode(map).ok());
            let map = map.ok_or("expected base64 in `precompiled_charsmap`, found none")?;
            character_map::check(&map).map_err(|found| {
                format!("expected a sound `precompiled_charsmap`, found {found}")
            })?;
            Precompiled::from(&map).map_err(|error| error.to_string())?.into()
        }
        "Strip" => {
            let left = step.strip_left.ok_or_else(|| lacks("strip_left"))?;
            Strip::new(left, step.strip_right.ok_or_else(|| lacks("strip_right"))?).into()
        }
        "Prepend" => {
            let text = step.prepend.as_deref().ok_or_else(|| lacks("prepend"))?;
            Prepend::new(letter(text)?).into()
        }
        "Replace" => {
            let pattern = step.pattern.as_ref().ok_or_else(|| lacks("pattern"))?;
            patterns.check(pattern)?;
            let pattern = match pattern {
                Pattern::String(text) => ReplacePattern::String(text.clone()),
                Pattern::Regex(regex) => ReplacePattern::Regex(regex.clone()),
            };
            let content = letter(step.content.as_deref().ok_or_else(|| lacks("content"))?)?;
            Replace::new(pattern, content).map_err(|error| error.to_string())?.into()
        }
        other => {
            return Err(format!(
                "expected a normalizer of NFC, Lowercase, Precompiled, Strip, Prepend and Replace, found `{}`",
                quoted(other)
            ));
        }
    })
}

/// What is put in for something else: a letter at most, or a few steps would make a text of any length.
fn letter(text: &str) -> Result<String, String> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (_, None) => Ok(text.to_owned()),
        _ => Err(format!("expected one letter in place of others, found `{}`", quoted(text))),
    }
}

fn splitting<N>(step: Step<N>, patterns: &mut Patterns) -> Result<PreTokenizerWrapper, String> {
    let lacks = |field: &str| format!("expected `{field}` in a step {}, found none", step.kind);
    Ok(match step.kind.as_str() {
        "WhitespaceSplit" => WhitespaceSplit.into(),
        "Metaspace" => {
            let replacement = step.replacement.ok_or_else(|| lacks("replacement"))?;
            let scheme = match (step.add_prefix_space, step.prepend_scheme) {
                (Some(false), None | Some(PrependScheme::Never)) => PrependScheme::Never,
                (Some(false), Some(_)) => {
                    return Err(
                        "expected a `prepend_scheme` that goes with `add_prefix_space`".into()
                    );
                }
                (_, scheme) => scheme.unwrap_or(PrependScheme::Always),
            };
            Metaspace::new(replacement, scheme, step.split.unwrap_or(true)).into()
        }
        "Split" => {
            let pattern = step.pattern.as_ref().ok_or_else(|| lacks("pattern"))?;
            patterns.check(pattern)?;
            let pattern = match pattern {
                Pattern::String(text) => SplitPattern::String(text.clone()),
                Pattern::Regex(regex) => SplitPattern::Regex(regex.clone()),
            };
            let behavior = step.behavior.ok_or_else(|| lacks("behavior"))?;
            let split = Split::new(pattern, behavior, step.invert.ok_or_else(|| lacks("invert"))?);
            split.map_err(|error| error.to_string())?.into()
        }
        "ByteLevel" => {
            let space = step.add_prefix_space.ok_or_else(|| lacks("add_prefix_space"))?;
            let trim = step.trim_offsets.unwrap_or(true);
            ByteLevel::new(space, trim, step.use_regex.unwrap_or(true)).into()
        }
        other => {
            return Err(format!(
                "expected a pre_tokenizer of WhitespaceSplit, Metaspace, Split and ByteLevel, found `{}`",
                quoted(other)
            ));
        }
    })
}
