//! Files of tensors that are too large to be in memory at once.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use safetensors::SafeTensorError;

use crate::error::Error;
use crate::error::Result;

/// Writes tensors, one after the other as they are asked for, so that nobody ever sees half a file.
///
/// # Errors
/// [`Error::Write`] if the folder is missing or not writable, or the disk is full.
pub fn write_safetensors<V: safetensors::View>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, V)>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let partial = partial(path);
    let metadata = Some(metadata).filter(|texts| !texts.is_empty());
    let write = || {
        // As readable as any new file; what the crate makes, its owner alone can read.
        let usual = std::fs::File::create(&partial)?.metadata()?.permissions();
        match safetensors::serialize_to_file(tensors, metadata, &partial) {
            Ok(()) => std::fs::set_permissions(&partial, usual)
                .and_then(|()| std::fs::rename(&partial, path)),
            Err(SafeTensorError::IoError(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    };
    let written = write();
    written.map_err(|source| {
        // What is left of it is of no use; the error that led here matters more than one of removing.
        let _ = std::fs::remove_file(&partial);
        Error::Write { path: path.into(), source }
    })
}

/// Where a file or folder is until it is whole.
#[must_use]
pub fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::list;
    use crate::files::write_atomic;

    #[test]
    fn tensors_are_as_readable_as_other_files() {
        let temp = tempfile::tempdir().unwrap();
        let [tensors, other] = ["x.safetensors", "x.json"].map(|name| temp.path().join(name));
        write_atomic(&other, b"{}").unwrap();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![2], b"ab");
        let named = [("a".to_owned(), view.unwrap())];
        write_safetensors(&tensors, named, HashMap::new()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions();
        assert_eq!(mode(&tensors), mode(&other));
        assert_eq!(list(temp.path()).unwrap(), ["x.json", "x.safetensors"]);
    }
}
