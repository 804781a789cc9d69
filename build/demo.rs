//! Puts the files of `models/demo` into the program (feature `embed-demo`): a generated table,
//! so that the list of files is the folder itself.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::Result;
use crate::write;

const DEMO: &str = "models/demo";

pub(crate) fn embed() -> Result<()> {
    // Cargo takes a missing path for a changed one, every time: watch only what is there.
    if let Some(watched) = [DEMO, "models"].into_iter().find(|path| Path::new(path).is_dir()) {
        println!("cargo::rerun-if-changed={watched}");
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join(DEMO);
    let mut files = Vec::new();
    if env::var_os("CARGO_FEATURE_EMBED_DEMO").is_some() && root.is_dir() {
        collect(&root, "", &mut files)?;
    }
    files.sort();
    let mut table = format!("pub(super) static FILES: [(&str, &[u8]); {}] = [\n", files.len());
    for (name, path) in files {
        writeln!(table, "    ({name:?}, include_bytes!({path:?})),")?;
    }
    table.push_str("];\n");
    write(&PathBuf::from(env::var("OUT_DIR")?).join("demo_files.rs"), &table)
}

/// All files below `folder` that are not hidden, with their names inside the model.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name =
            entry.file_name().into_string().map_err(|name| format!("not UTF-8: {name:?}"))?;
        if name.starts_with('.') {
            continue;
        }
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{prefix}{name}/"), files)?;
        } else {
            files.push((format!("{prefix}{name}"), entry.path()));
        }
    }
    Ok(())
}
