//! Step masks: which steps are computed, whatever they look like.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::error::Error;
use crate::error::Result;

/// What becomes of the steps that a mask does not compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskPolicy {
    /// The table decides.
    #[default]
    Dynamic,
    /// They are hits, without a comparison.
    Static,
}

/// Which steps are computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Mask {
    /// One of cache-dit's, which exist for 20, 28 and 50 steps: `slow`, `medium`, `fast`, `ultra`.
    Named(String),
    /// One entry a step, true is computed. Steps past the end are not.
    Steps(Vec<bool>),
}

/// cache-dit's masks by name and steps: data of `steps_mask` in its `cache_interface.py`, 1.5.3.
const NAMED: [(&str, [&str; 3]); 4] = [
    (
        "slow",
        [
            "11111111011100111001",
            "1111111101110011100110010001",
            "11111111111111111111110011111000111110001110001101",
        ],
    ),
    (
        "medium",
        [
            "11111101100011000101",
            "1111110110001100011000110001",
            "11111111111111110011100000111000001110000011100001",
        ],
    ),
    (
        "fast",
        [
            "11111101000000000001",
            "1111110100010000100000100001",
            "11111111111001100000110000000110000000001100000001",
        ],
    ),
    (
        "ultra",
        [
            "11110000000000000001",
            "1111001000001000000100000001",
            "11111110001100000000011000000000001100000000000001",
        ],
    ),
];

impl Mask {
    /// One entry a step.
    ///
    /// # Errors
    /// [`Error::Request`] if a named mask has none for so many steps, or the mask is longer.
    pub fn resolve(&self, steps: usize) -> Result<Vec<bool>> {
        let mut mask = match self {
            Self::Steps(mask) => mask.clone(),
            Self::Named(name) => {
                let of_name = NAMED.iter().filter(|(known, _)| known == name);
                let found = of_name.flat_map(|(_, masks)| masks).find(|mask| mask.len() == steps);
                match found {
                    Some(mask) => bits(mask).unwrap_or_default(),
                    None => refuse(format!(
                        "expected 20, 28 or 50 steps for the mask {name}, found {steps}; write the \
                         mask as 0s and 1s"
                    ))?,
                }
            }
        };
        if mask.len() > steps {
            refuse(format!("expected a mask of at most {steps} steps, found {}", mask.len()))?;
        }
        mask.resize(steps, false);
        Ok(mask)
    }
}

impl TryFrom<String> for Mask {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        if NAMED.iter().any(|(name, _)| *name == text) {
            return Ok(Self::Named(text));
        }
        match bits(&text) {
            Some(mask) if !mask.is_empty() => Ok(Self::Steps(mask)),
            _ => refuse(format!("expected slow, medium, fast, ultra or 0s and 1s, found `{text}`")),
        }
    }
}

impl From<Mask> for String {
    fn from(mask: Mask) -> Self {
        mask.to_string()
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => formatter.write_str(name),
            Self::Steps(mask) => {
                mask.iter().try_for_each(|&step| formatter.write_str(if step { "1" } else { "0" }))
            }
        }
    }
}

fn bits(text: &str) -> Option<Vec<bool>> {
    let bit = |character| match character {
        '0' => Some(false),
        '1' => Some(true),
        _ => None,
    };
    text.chars().map(bit).collect()
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(Error::Request { field: "cache-mask", reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &str) -> Mask {
        Mask::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn named_masks_compute_as_many_steps_as_published() {
        for (steps, counts) in [(28, [18, 15, 11, 8]), (50, [38, 29, 20, 14])] {
            for (name, count) in ["slow", "medium", "fast", "ultra"].into_iter().zip(counts) {
                let resolved = mask(name).resolve(steps).unwrap();
                assert_eq!(resolved.iter().filter(|&&step| step).count(), count, "{name} {steps}");
                assert!(resolved[0] && resolved[steps - 1], "{name} {steps}");
            }
        }
        let error = mask("fast").resolve(30).unwrap_err().to_string();
        assert!(
            error.contains("expected 20, 28 or 50 steps for the mask fast, found 30"),
            "{error}"
        );
    }

    #[test]
    fn a_written_mask_ends_with_skipped_steps() {
        assert_eq!(mask("101").resolve(5).unwrap(), [true, false, true, false, false]);
        assert_eq!(mask("101").to_string(), "101");
        assert!(mask("101").resolve(2).is_err());
        for wrong in ["", "10x", "quick"] {
            assert!(Mask::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
