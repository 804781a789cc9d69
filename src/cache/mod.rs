//! DualCache: which blocks of which steps are skipped.
//!
//! [`CacheOptions`] say what a user wants, [`ListSchedule`] what that means for a model and a number
//! of steps, [`CacheLog`] what came of it. The decision itself is [`crate::ops::residual_diff`], what
//! a hit or a computed step does is [`crate::model::flux::cached`]. Spec dualcache.

pub mod changes;
pub mod file;
pub mod log;
pub mod mask;
pub mod options;
pub mod preset;
pub mod record;
pub mod schedule;

pub use changes::Changes;
pub use changes::ListChanges;
pub use log::CacheLog;
pub use log::ListLog;
pub use mask::Mask;
pub use mask::MaskPolicy;
pub use options::CacheOptions;
pub use options::Layout;
pub use options::ListName;
pub use options::ListOptions;
pub use options::RoundingChoice;
pub use preset::Preset;
pub use record::CacheRecord;
pub use record::RecordedOptions;
pub use schedule::ListSchedule;

pub use crate::ops::residual_diff::rule::Counting;
pub use crate::ops::residual_diff::rule::Reason;
pub use crate::ops::residual_diff::rule::Rounding;
pub use crate::ops::residual_diff::rule::Verdict;
