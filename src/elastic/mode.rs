//! The names of modes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;

/// What `--mode` names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Diffusers' roundings: the yardstick of quality.
    Original,
    /// The same maths on the fastest bf16 kernels.
    #[default]
    Xl,
    /// fp8 where it is almost free of error.
    L,
    /// fp8 in every linear layer of the blocks.
    M,
    /// fp8 everywhere, and narrowed blocks where the plan says so.
    S,
    /// A plan file of the user's.
    Plan(PathBuf),
    /// The plan that drew a picture, as its metadata hold it.
    Recorded(Box<RecordedPlan>),
}

/// What a picture says of the mode that drew it, by which another is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedPlan {
    /// What the mode was called. A name, never opened, though it may be a file's.
    pub name: String,
    /// The plan, as in a plan file.
    pub plan: serde_json::Value,
    /// The parts that were computed in the pipeline's dtype for want of kernels: so says the plan, too.
    pub lowered: Vec<String>,
    /// The picture, for messages.
    pub picture: PathBuf,
}

impl Mode {
    /// The names a user can write.
    pub const NAMES: [&str; 5] = ["original", "XL", "L", "M", "S"];
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Original => formatter.write_str("original"),
            Self::Xl => formatter.write_str("XL"),
            Self::L => formatter.write_str("L"),
            Self::M => formatter.write_str("M"),
            Self::S => formatter.write_str("S"),
            Self::Plan(path) => write!(formatter, "{}", path.display()),
            Self::Recorded(recorded) => formatter.write_str(&recorded.name),
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "original" => Ok(Self::Original),
            "xl" => Ok(Self::Xl),
            "l" => Ok(Self::L),
            "m" => Ok(Self::M),
            "s" => Ok(Self::S),
            lower if lower.ends_with(".json") => Ok(Self::Plan(PathBuf::from(text))),
            _ => Err(Error::Request {
                field: "mode",
                reason: format!(
                    "expected one of {} or a plan file ending in .json, found `{text}`",
                    Self::NAMES.join(", ")
                ),
            }),
        }
    }
}
