//! Where the files that tests read lie.

use std::path::PathBuf;

/// A file or folder of the checkout (`tests/goldens/...`, `models/demo/...`), or of the folder that
/// `FLUX_RT_TEST_DATA` names, where a packed test runs without the checkout that it was built in.
pub(crate) fn path(relative: &str) -> PathBuf {
    let root = std::env::var_os("FLUX_RT_TEST_DATA");
    let root = root.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    root.join(relative)
}
