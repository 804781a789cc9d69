//! The demo model: inside the program with the feature `embed-demo`, else the folder `models/demo`.

use std::path::Path;

use crate::error::Error;
use crate::error::Result;
use crate::files::Folder;

// `FILES`, made by build.rs from the folder.
include!(concat!(env!("OUT_DIR"), "/demo_files.rs"));

const FOLDER: &str = "models/demo";

/// The demo model's folder.
pub(super) fn folder() -> Result<Folder> {
    if !FILES.is_empty() {
        return Ok(Folder::Embedded(&FILES, String::new()));
    }
    if Path::new(FOLDER).is_dir() {
        return Ok(Folder::Disk(FOLDER.into()));
    }
    Err(Error::ModelNotFound {
        model: "demo".into(),
        searched: format!("it is not part of this program, and there is no folder {FOLDER} here"),
        advice: "build with the feature `embed-demo`, or run in the project's folder".into(),
    })
}
