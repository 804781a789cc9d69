//! The named settings of the cache.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

use crate::cache::CacheOptions;
use crate::cache::Counting;
use crate::cache::Layout;
use crate::cache::ListOptions;
use crate::cache::RoundingChoice;
use crate::error::Error;

/// What `--cache` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preset {
    /// Every block of every step is computed.
    #[default]
    None,
    /// Skips only what hardly changed.
    Conservative,
    /// Skips more.
    Aggressive,
}

impl Preset {
    /// The names a user can write.
    pub const NAMES: [&str; 3] = ["none", "conservative", "aggressive"];

    /// The settings, those of the caching tutorial (spec dualcache 1): each list decides for itself,
    /// the single blocks over text and image.
    #[must_use]
    pub fn options(self) -> Option<CacheOptions> {
        let list = match self {
            Self::None => return None,
            Self::Conservative => ListOptions {
                fn_blocks: 4,
                threshold: 0.05,
                max_continuous: Some(3),
                ..ListOptions::default()
            },
            Self::Aggressive => ListOptions {
                fn_blocks: 1,
                threshold: 0.2,
                max_continuous: Some(10),
                ..ListOptions::default()
            },
        };
        Some(CacheOptions {
            layout: Layout::SplitJoint,
            counting: Counting::Legacy,
            rounding: RoundingChoice::Auto,
            double: list.clone(),
            single: list,
        })
    }

    /// The preset that has exactly these settings.
    #[must_use]
    pub fn of(options: Option<&CacheOptions>) -> Option<Self> {
        let presets = [Self::None, Self::Conservative, Self::Aggressive];
        presets.into_iter().find(|preset| preset.options().as_ref() == options)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Conservative => "conservative",
            Self::Aggressive => "aggressive",
        })
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Ok(Self::None),
            "conservative" => Ok(Self::Conservative),
            "aggressive" => Ok(Self::Aggressive),
            _ => Err(Error::Request {
                field: "cache",
                reason: format!(
                    "expected {} or a .toml file, found `{text}`",
                    Self::NAMES.join(", ")
                ),
            }),
        }
    }
}
