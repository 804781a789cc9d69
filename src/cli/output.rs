//! Where pictures go, and what they are called: `0001-a-red-apple-s42.png` in a folder.
//!
//! Whether the place is writable is found out before the model is loaded, not after minutes of work.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::error::Error;
use crate::error::Result;
use crate::files;

/// What `--out` means.
#[derive(Debug, PartialEq)]
pub(super) enum Destination {
    /// This file, for the only picture.
    File(PathBuf),
    /// A folder, made when the first picture is written.
    Folder(PathBuf),
}

/// Names of pictures that this program does not write.
const OTHER_FORMATS: [&str; 10] =
    ["jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "jxl"];

/// Longest part of a prompt in a file name.
const MAX_SLUG: usize = 40;

impl Destination {
    /// Reads `--out` for so many `pictures` and checks that they can be written there.
    ///
    /// # Errors
    /// [`Error::Request`] when the path does not fit, [`Error::Write`] when it is not writable.
    pub(super) fn new(out: &Path, pictures: usize, overwrite: bool) -> Result<Self> {
        let extension = out.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let refuse = |reason| Err(Error::Request { field: "out", reason });
        if out.as_os_str().is_empty() || out == Path::new("-") {
            return refuse("expected a folder or a .png file".into());
        }
        if !out.is_dir() && OTHER_FORMATS.contains(&extension.as_str()) {
            let found = out.display();
            return refuse(format!("expected a folder or a .png file, found `{found}`"));
        }
        if out.is_dir() || extension != "png" {
            check_folder(out)?;
            return Ok(Self::Folder(out.into()));
        }
        if pictures != 1 {
            let found = out.display();
            return refuse(format!("expected a folder for {pictures} pictures, found `{found}`"));
        }
        check_file("out", out, overwrite)?;
        Ok(Self::File(out.into()))
    }

    /// Writes a picture and returns its path.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn save(&self, prompt: &str, seed: u64, png: &[u8]) -> Result<PathBuf> {
        let folder = match self {
            Self::File(path) => {
                make_folder(folder_of(path))?;
                files::write_atomic(path, png)?;
                return Ok(path.clone());
            }
            Self::Folder(folder) => folder,
        };
        make_folder(folder)?;
        loop {
            let number = next_number(&files::list(folder)?);
            let path = folder.join(format!("{number:04}-{}-s{seed}.png", slug(prompt)));
            if files::write_new(&path, png)? {
                return Ok(path);
            }
        }
    }
}

/// Checks that the file `path`, given with `--field`, can be written.
///
/// # Errors
/// [`Error::Request`] when it exists and may not be replaced, [`Error::Write`] when it cannot be
/// made.
pub(super) fn check_file(field: &'static str, path: &Path, overwrite: bool) -> Result<()> {
    if path.is_dir() {
        let reason = format!("expected a file, found the folder `{}`", path.display());
        return Err(Error::Request { field, reason });
    }
    if path.exists() && !overwrite {
        let reason = format!("`{}` exists; take another name or add --overwrite", path.display());
        return Err(Error::Request { field, reason });
    }
    check_folder(folder_of(path))
}

/// Tries out whether files can be made in `folder`, or in the nearest folder above it that exists;
/// leaves nothing behind.
///
/// # Errors
/// [`Error::Write`] naming `folder`.
pub(super) fn check_folder(folder: &Path) -> Result<()> {
    let there = folder.ancestors().find(|path| path.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("."));
    let tried = if there.is_dir() {
        tempfile::Builder::new().prefix(".flux-rt-").tempfile_in(there).map(drop)
    } else {
        Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is a file", there.display())))
    };
    // The kind alone: tempfile adds the name of a file that nobody asked for.
    tried.map_err(|source| {
        let source = if there.is_dir() { source.kind().into() } else { source };
        Error::Write { path: folder.into(), source }
    })
}

/// Makes a folder and those above it.
///
/// # Errors
/// [`Error::Write`].
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    let made = std::fs::create_dir_all(folder);
    made.map_err(|source| Error::Write { path: folder.into(), source })
}

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// One more than the largest number that a name starts with.
fn next_number(names: &[String]) -> u64 {
    let numbers = names.iter().filter_map(|name| name.split_once('-')?.0.parse::<u64>().ok());
    numbers.filter(|number| *number < u64::MAX).max().map_or(1, |largest| largest + 1)
}

/// The prompt as part of a file name: lower-case ASCII letters and digits, all else one `-`.
pub(super) fn slug(prompt: &str) -> String {
    let mut slug = String::new();
    for word in prompt.split(|letter: char| !letter.is_ascii_alphanumeric()) {
        if word.is_empty() {
            continue;
        }
        if slug.is_empty() {
            slug.extend(word.chars().take(MAX_SLUG));
        } else if slug.len() + 1 + word.len() <= MAX_SLUG {
            slug.push('-');
            slug.push_str(word);
        } else {
            break;
        }
    }
    if slug.is_empty() { "picture".into() } else { slug.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(outcome: Result<impl std::fmt::Debug>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn slugs_are_short_and_safe() {
        assert_eq!(slug("A red apple, on a *table*!"), "a-red-apple-on-a-table");
        assert_eq!(slug("../../etc/passwd\0\n"), "etc-passwd");
        assert_eq!(slug("ein Käse"), "ein-k-se");
        assert_eq!(slug("赤いりんご"), "picture");
        assert_eq!(slug(""), "picture");
        assert_eq!(slug(&"a".repeat(99)).len(), MAX_SLUG);
        assert_eq!(slug(&"word ".repeat(99)).len(), 39);
    }

    #[test]
    fn numbers_go_on_after_the_largest() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect::<Vec<_>>();
        assert_eq!(next_number(&[]), 1);
        assert_eq!(next_number(&names(&["0007-a-s1.png", "0003-b.png", "x-9.png", "12.png"])), 8);
        assert_eq!(next_number(&names(&["18446744073709551615-a.png"])), 1);
    }

    #[test]
    fn pictures_in_a_folder_never_replace_one() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("new/pictures");
        let destination = Destination::new(&folder, 3, false).unwrap();
        assert!(!folder.exists(), "checking leaves nothing behind");
        let mut names = Vec::new();
        for _ in 0..3 {
            let path = destination.save("An apple", 42, b"png").unwrap();
            names.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
        let expected = ["0001-an-apple-s42.png", "0002-an-apple-s42.png", "0003-an-apple-s42.png"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_file_is_for_one_picture_and_not_replaced_unasked() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("apple.PNG");
        assert!(reason(Destination::new(&path, 2, true)).contains("a folder for 2 pictures"));
        let destination = Destination::new(&path, 1, false).unwrap();
        assert_eq!(destination, Destination::File(path.clone()));
        destination.save("An apple", 42, b"first").unwrap();
        assert!(reason(Destination::new(&path, 1, false)).contains("--overwrite"));
        Destination::new(&path, 1, true).unwrap().save("An apple", 42, b"second").unwrap();
        assert_eq!(files::read_text(&path).unwrap(), "second");
    }

    #[test]
    fn the_kind_of_place_follows_from_its_name() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("v1.0");
        assert_eq!(Destination::new(&folder, 1, false).unwrap(), Destination::Folder(folder));
        let named_png = temp.path().join("folder.png");
        std::fs::create_dir(&named_png).unwrap();
        assert_eq!(
            Destination::new(&named_png, 2, false).unwrap(),
            Destination::Folder(named_png.clone())
        );
        assert!(reason(Destination::new(&temp.path().join("a.jpg"), 1, false)).contains("a.jpg"));
        assert!(reason(Destination::new(Path::new("-"), 1, false)).contains("expected a folder"));
        assert!(reason(check_file("save-latents", &named_png, true)).contains("expected a file"));
    }

    #[test]
    fn a_place_below_a_file_is_not_writable() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        files::write_atomic(&file, b"").unwrap();
        for out in [file.join("below/deeper"), file.join("a.png"), file] {
            let error = Destination::new(&out, 1, false).unwrap_err();
            assert_eq!(error.exit_code(), 8, "{error}");
        }
    }
}
