//! Files mapped into memory. Pages beyond the end of a file that was cut meanwhile raise SIGBUS when they
//! are touched (see `cut`); the rest of its last page reads as zeros. So whoever reads much of a mapping
//! asks before and after whether the file is still whole.

use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::error::Error;
use crate::error::Result;
use crate::files::open;
use crate::files::read_error;

/// The content of a file.
#[derive(Debug)]
pub enum Bytes {
    /// Mapped from disk: pages are read when they are touched.
    Mapped(Mapped),
    /// Part of the program.
    Embedded(&'static [u8]),
}

/// A mapping and the file that it is of.
#[derive(Debug)]
pub struct Mapped {
    map: Mmap,
    file: std::fs::File,
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => &mapped.map,
            Self::Embedded(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// Fails if the file, which is at `path`, is shorter than when it was mapped. Asked before and after
    /// reading, it leaves one case: a file cut in between, which raises SIGBUS.
    ///
    /// # Errors
    /// [`Error::Format`]; [`Error::Read`] if the system does not tell.
    pub fn expect_whole(&self, path: &Path) -> Result<()> {
        let Self::Mapped(Mapped { map, file }) = self else { return Ok(()) };
        let found = file.metadata().map_err(|source| read_error(path, source))?.len();
        let expected = map.len();
        if usize::try_from(found).is_ok_and(|found| found < expected) {
            let reason = format!(
                "cut while it was read: expected {expected} bytes as when it was opened, found \
                 {found}; another program changed the file"
            );
            return Err(Error::Format { path: path.into(), reason });
        }
        Ok(())
    }
}

/// The content of a file, mapped into memory.
///
/// # Errors
/// [`Error::Read`] if the file cannot be opened or mapped.
pub fn map(path: &Path) -> Result<Bytes> {
    let file = open(path).map_err(|source| read_error(path, source))?;
    // SAFETY: the mapping is private and read-only, and outlives no file, which lies beside it. What is
    // left is that another program may change or cut the file meanwhile; model files are not written in
    // place (downloads are renamed), every reader of weights takes that risk, and `expect_whole` and
    // `cut` tell when it came true.
    let mapped = unsafe { Mmap::map(&file) };
    match mapped {
        Ok(map) => Ok(Bytes::Mapped(Mapped { map, file })),
        Err(source) => Err(read_error(path, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_maps_to_no_bytes() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        assert!(map(temp.path()).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_was_cut_is_not_whole() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        temp.as_file().set_len(10).unwrap();
        let bytes = map(temp.path()).unwrap();
        bytes.expect_whole(temp.path()).unwrap();
        temp.as_file().set_len(11).unwrap();
        bytes.expect_whole(temp.path()).unwrap();
        temp.as_file().set_len(9).unwrap();
        let error = bytes.expect_whole(temp.path()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("expected 10 bytes") && text.contains("found 9"), "{text}");
        assert_eq!(error.exit_code(), 3);
    }
}
