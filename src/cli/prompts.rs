//! The prompts of a run: from the flags, from a file, or from stdin.

use std::io;
use std::path::Path;

use crate::error::Error;
use crate::error::Result;
use crate::files;

/// Reads a prompt file; `-` is stdin. A named pipe or `/dev/fd/N` will do as well.
///
/// # Errors
/// [`Error::Request`] when the file cannot be read, is not UTF-8, is longer than 16 MiB or holds no prompt.
pub fn read_file(path: &Path) -> Result<Vec<String>> {
    let read = if path == Path::new("-") {
        files::bytes_of_text(io::stdin().lock())
    } else {
        open(path).and_then(files::bytes_of_text)
    };
    let name = if path == Path::new("-") { "stdin".into() } else { path.display().to_string() };
    let bytes = read.map_err(|error| refuse(format!("cannot read {name}: {error}")))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.iter().take(error.valid_up_to());
        let line = before.filter(|&&byte| byte == b'\n').count() + 1;
        refuse(format!("{name}: line {line}: expected UTF-8, found other bytes"))
    })?;
    let prompts = parse(text);
    if prompts.is_empty() {
        let expected = "expected one prompt a line, found only blank lines and comments";
        return Err(refuse(format!("{name}: {expected}")));
    }
    Ok(prompts)
}

/// One prompt a line; blank lines and lines that start with `#` are skipped, a byte order mark and
/// the white space around a prompt are dropped.
fn parse(text: &str) -> Vec<String> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(String::from).collect()
}

/// Whether somebody forgot the quotes: `--prompt a red apple` is three prompts.
pub(super) fn look_unquoted(prompts: &[String]) -> bool {
    prompts.len() > 1 && !prompts.iter().any(|prompt| prompt.contains(char::is_whitespace))
}

#[expect(clippy::disallowed_methods, reason = "files::read_text takes regular files only")]
fn open(path: &Path) -> io::Result<std::fs::File> {
    std::fs::File::open(path)
}

fn refuse(reason: String) -> Error {
    Error::Request { field: "prompt-file", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_file_has_one_prompt_a_line() {
        let text = "\u{feff}# colours\r\na red apple\r\n\r\n  a blue car \n #no\nC# code\nlast";
        assert_eq!(parse(text), ["a red apple", "a blue car", "C# code", "last"]);
        assert!(parse("\n# nothing\n \n").is_empty());
    }

    #[test]
    fn errors_name_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts.txt");
        crate::files::write_atomic(&path, b"good\nbad \xff\n").unwrap();
        let text = read_file(&path).unwrap_err().to_string();
        assert!(text.contains("prompts.txt: line 2"), "{text}");
        #[cfg(unix)]
        {
            let text = read_file(Path::new("/dev/zero")).unwrap_err().to_string();
            assert!(text.contains("at most 16777216 bytes"), "{text}");
        }
        let text = read_file(&folder.path().join("missing")).unwrap_err().to_string();
        assert!(text.contains("cannot read") && text.contains("missing"), "{text}");
    }

    #[test]
    fn forgotten_quotes_are_noticed() {
        let words = |text: &str| -> Vec<String> { text.split('|').map(String::from).collect() };
        assert!(look_unquoted(&words("a|red|apple")));
        assert!(!look_unquoted(&words("apple")));
        assert!(!look_unquoted(&words("a red apple|car")));
    }
}
