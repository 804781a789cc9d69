//! DualCache: presets of the step cache.
//!
//! A preset is parsed and recorded everywhere; while the cache itself does not act,
//! [`crate::pipeline::Engine::notes`] says so.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// What `--cache` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
                reason: format!("expected one of {}, found `{text}`", Self::NAMES.join(", ")),
            }),
        }
    }
}
