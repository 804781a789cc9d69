//! No panic crosses into the caller.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

/// Runs `work`; if it panics, what it said, or `instead` for a panic without words.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What `work` changes is not used any more after a panic: the engine is marked.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "a panic without words".to_owned())
    })
}
