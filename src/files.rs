//! Every access to the file system; errors name the path.
//!
//! A [`File`] lies on disk or inside the program (the demo model), and reads the same either way.

#![expect(unsafe_code, reason = "mapping a file into memory")]
#![expect(clippy::disallowed_methods, reason = "this is the place that the lint sends others to")]

mod cut;
mod mapped;
mod tensors;

use std::ffi::OsStr;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use crate::error::Error;
use crate::error::Result;

pub use cut::LostPage;
pub use cut::Report;
pub use cut::tell_of_cut_files;
pub use mapped::Bytes;
pub use mapped::Mapped;
pub use mapped::map;
pub use tensors::partial;
pub use tensors::write_safetensors;

/// The longest text that is read. T5's `tokenizer.json`, the longest that FLUX.1 has, is 2.4 MB.
const MOST_TEXT: usize = 16 << 20;

/// One file of the demo model: its path inside the model folder and its content.
pub type Embedded = (&'static str, &'static [u8]);

/// A file on disk or inside the program.
#[derive(Debug, Clone, PartialEq)]
pub enum File {
    /// On disk.
    Disk(PathBuf),
    /// Inside the program.
    Embedded(Embedded),
}

impl File {
    /// The path used in messages; for an embedded file the one inside its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk(path) => path,
            Self::Embedded((path, _)) => Path::new(path),
        }
    }

    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The whole content as text.
    ///
    /// # Errors
    /// As [`File::text_up_to`], of more bytes than any text has.
    pub fn text(&self) -> Result<String> {
        self.text_up_to(MOST_TEXT)
    }

    /// The whole content as text, of `most` bytes at most.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read, is longer or is not UTF-8.
    pub fn text_up_to(&self, most: usize) -> Result<String> {
        match self {
            Self::Disk(path) => read_text_up_to(path, most),
            Self::Embedded((path, bytes)) => String::from_utf8(bytes.to_vec()).map_err(|error| {
                let source = io::Error::new(io::ErrorKind::InvalidData, error);
                Error::Read { path: path.into(), source }
            }),
        }
    }

    /// The whole content, mapped if it lies on disk.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read.
    pub fn bytes(&self) -> Result<Bytes> {
        match self {
            Self::Disk(path) => map(path),
            Self::Embedded((_, bytes)) => Ok(Bytes::Embedded(bytes)),
        }
    }
}

/// A folder on disk or inside the program.
#[derive(Debug, Clone, PartialEq)]
pub enum Folder {
    /// On disk.
    Disk(PathBuf),
    /// Inside the program: all embedded files and the folder's path among them, "" or `name/`.
    Embedded(&'static [Embedded], String),
}

impl Folder {
    /// The path used in messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk(path) => path,
            Self::Embedded(_, prefix) => Path::new(prefix),
        }
    }

    /// The file `name` (with `/` for files in sub-folders), if there is one.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<File> {
        match self {
            Self::Disk(path) => {
                let path = path.join(name);
                path.is_file().then_some(File::Disk(path))
            }
            Self::Embedded(files, prefix) => {
                let wanted = format!("{prefix}{name}");
                let found = files.iter().find(|(path, _)| *path == wanted);
                found.map(|file| File::Embedded(*file))
            }
        }
    }

    /// The sub-folder `name`, if there is one.
    #[must_use]
    pub fn folder(&self, name: &str) -> Option<Self> {
        match self {
            Self::Disk(path) => {
                let path = path.join(name);
                path.is_dir().then_some(Self::Disk(path))
            }
            Self::Embedded(files, prefix) => {
                let prefix = format!("{prefix}{name}/");
                let found = files.iter().any(|(path, _)| path.starts_with(&prefix));
                found.then_some(Self::Embedded(files, prefix))
            }
        }
    }

    /// The names of the files and folders in it, sorted.
    ///
    /// # Errors
    /// [`Error::Read`] if the folder cannot be listed.
    pub fn names(&self) -> Result<Vec<String>> {
        match self {
            Self::Disk(path) => list(path),
            Self::Embedded(files, prefix) => {
                let inside = files.iter().filter_map(|(path, _)| path.strip_prefix(&**prefix));
                let first = inside.filter_map(|path| path.split('/').next()).map(String::from);
                let mut names: Vec<String> = first.collect();
                names.sort();
                names.dedup();
                Ok(names)
            }
        }
    }
}

/// The content of a text file.
///
/// # Errors
/// [`Error::Read`] if the file cannot be read, is not UTF-8, or is longer than any file of its kind.
pub fn read_text(path: &Path) -> Result<String> {
    read_text_up_to(path, MOST_TEXT)
}

/// As [`read_text`], of `most` bytes at most.
///
/// # Errors
/// As [`read_text`].
pub fn read_text_up_to(path: &Path, most: usize) -> Result<String> {
    let read = || {
        String::from_utf8(bytes_up_to(open(path)?, most)?)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
    };
    read().map_err(|source| read_error(path, source))
}

/// All bytes of a text in a file, a pipe or a terminal, 16 MiB at most.
///
/// # Errors
/// Those of reading, and kind `InvalidData` for what is longer.
#[cfg(feature = "cli")]
pub(crate) fn bytes_of_text(from: impl io::Read) -> io::Result<Vec<u8>> {
    bytes_up_to(from, MOST_TEXT)
}

fn bytes_up_to(from: impl io::Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        let reason = format!("expected a text of at most {most} bytes, found more");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

/// The names of the files and folders in a folder, sorted.
///
/// # Errors
/// [`Error::Read`] if the folder cannot be listed.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(path).map_err(|source| read_error(path, source))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| read_error(path, source))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Writes a file so that nobody ever sees half of it: to a temporary file beside it, then renamed.
///
/// # Errors
/// [`Error::Write`] if the folder is missing or not writable.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        temporary_beside(path, content)?.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|source| Error::Write { path: path.into(), source })
}

/// As [`write_atomic`], but never replaces a file: false if `path` exists.
///
/// # Errors
/// [`Error::Write`] if the folder is missing or not writable.
pub fn write_new(path: &Path, content: &[u8]) -> Result<bool> {
    let write = || match temporary_beside(path, content)?.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    };
    write().map_err(|source| Error::Write { path: path.into(), source })
}

/// Makes a folder and those above it.
///
/// # Errors
/// [`Error::Write`].
pub fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|source| Error::Write { path: path.into(), source })
}

/// Gives a folder or file another name; one that is there already stays.
///
/// # Errors
/// [`Error::Write`].
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|source| Error::Write { path: to.into(), source })
}

/// Removes a folder and all in it as far as that goes: what is left of work that failed.
pub fn remove_folder(path: &Path) {
    // The error that led here matters more.
    let _ = std::fs::remove_dir_all(path);
}

/// Removes a file, if it is there and that can be done.
pub fn remove_file(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Puts a file into a folder under its name: as another name of the same file where that can be, else
/// as a copy.
///
/// # Errors
/// [`Error::Read`] or [`Error::Write`].
pub fn place(file: &File, folder: &Path) -> Result<()> {
    let to = folder.join(file.name());
    if let File::Disk(path) = file {
        // A link's target, not the link: it may be relative to where it lies.
        let source = path.canonicalize().map_err(|source| read_error(path, source))?;
        if std::fs::hard_link(source, &to).is_ok() {
            return Ok(());
        }
    }
    write_atomic(&to, &file.bytes()?)
}

/// A temporary file in the folder of `path`, complete and on the disk.
fn temporary_beside(path: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = path.file_name().unwrap_or(OsStr::new("out"));
    let mut prefix = OsStr::new(".").to_os_string();
    prefix.push(name);
    let mut builder = tempfile::Builder::new();
    with_usual_permissions(builder.prefix(&prefix));
    let mut file = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Temporary files are private by default; an output is as readable as any new file (umask).
#[cfg(unix)]
fn with_usual_permissions(builder: &mut tempfile::Builder<'_, '_>) {
    use std::os::unix::fs::PermissionsExt as _;
    builder.permissions(std::fs::Permissions::from_mode(0o666));
}

#[cfg(not(unix))]
fn with_usual_permissions(_: &mut tempfile::Builder<'_, '_>) {}

/// Opens a regular file: a pipe would block for ever, a folder fails with a worse message later.
fn open(path: &Path) -> io::Result<std::fs::File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    std::fs::File::open(path)
}

fn read_error(path: &Path, source: io::Error) -> Error {
    Error::Read { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    static EMBEDDED: [Embedded; 3] =
        [("a.json", b"{}"), ("vae/config.json", b"1"), ("vae/x.safetensors", b"22")];

    #[test]
    fn embedded_and_disk_folders_read_alike() {
        let temp = tempfile::tempdir().unwrap();
        for (name, content) in EMBEDDED {
            let path = temp.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_atomic(&path, content).unwrap();
        }
        let disk = Folder::Disk(temp.path().into());
        for folder in [disk, Folder::Embedded(&EMBEDDED, String::new())] {
            assert_eq!(folder.names().unwrap(), ["a.json", "vae"]);
            assert_eq!(folder.file("a.json").unwrap().text().unwrap(), "{}");
            assert_eq!(folder.file("vae/config.json").unwrap().text().unwrap(), "1");
            assert!(folder.file("vae").is_none() && folder.folder("va").is_none());
            let vae = folder.folder("vae").unwrap();
            assert_eq!(vae.names().unwrap(), ["config.json", "x.safetensors"]);
            let file = vae.file("x.safetensors").unwrap();
            assert_eq!(
                (file.name().as_str(), &*file.bytes().unwrap()),
                ("x.safetensors", &b"22"[..])
            );
        }
    }

    #[test]
    fn writing_replaces_and_leaves_no_temporary_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("out.png");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(read_text(&path).unwrap(), "new");
        assert_eq!(list(temp.path()).unwrap(), ["out.png"]);
    }

    #[test]
    fn a_text_without_end_is_refused() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        temp.as_file().set_len(1 << 40).unwrap();
        let error = read_text(temp.path()).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        let Error::Read { source, .. } = error else { unreachable!() };
        assert!(source.to_string().contains("at most 16777216 bytes"), "{source}");
        assert!(bytes_up_to(io::repeat(b'a'), MOST_TEXT).is_err());
    }

    #[test]
    fn errors_name_the_path() {
        let temp = tempfile::tempdir().unwrap();
        let missing = temp.path().join("missing");
        for error in [read_text(&missing).err(), map(&missing).err(), map(temp.path()).err()] {
            assert!(matches!(error, Some(Error::Read { path, .. }) if path.starts_with(&temp)));
        }
        let error = write_atomic(&missing.join("out.png"), b"").unwrap_err();
        assert!(matches!(error, Error::Write { path, .. } if path.ends_with("missing/out.png")));
    }
}
