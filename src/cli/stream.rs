//! The two output streams: results go to stdout, everything else to stderr.
//!
//! With `--progress json` every line on stderr is a JSON object, notes and errors too. A reader of
//! stdout that went away (`| head`) is not an error.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use serde_json::Value;
use serde_json::json;

use crate::error::Error;
use crate::error::Result;

/// What messages call stdout.
pub(super) const STDOUT: &str = "standard output";

/// Most letters of a message.
const MOST_LETTERS: usize = 4000;
/// Most letters of a text that a message quotes.
pub(super) const MOST_QUOTED: usize = 80;

static JSON_LINES: AtomicBool = AtomicBool::new(false);

/// From now on stderr carries JSON lines.
pub(super) fn use_json_lines() {
    JSON_LINES.store(true, Ordering::Relaxed);
}

/// Writes a result to stdout.
///
/// # Errors
/// [`Error::Write`] when stdout cannot be written, unless its reader has gone.
pub(super) fn result(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(Error::Write { path: STDOUT.into(), source }),
        Ok(()) => Ok(()),
    }
}

/// Writes a JSON document to stdout.
///
/// # Errors
/// As [`result`].
pub(super) fn document(document: &Value) -> Result<()> {
    result(&format!("{document:#}\n"))
}

/// Writes a line to stderr. Nobody can be told if that fails.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes one JSON object as a line to stderr.
pub(super) fn event(event: &Value) {
    line(&event.to_string());
}

/// Tells the user something worth knowing that stops nothing.
pub(super) fn note(text: &str) {
    if JSON_LINES.load(Ordering::Relaxed) {
        event(&json!({ "event": "note", "text": text }));
    } else {
        line(&format!("{} {}", painted("note:", "1;36"), harmless(text)));
    }
}

/// Takes a bar and the terminal's `^C` off the current line.
pub(super) fn clear_line() {
    let mut stderr = io::stderr();
    if stderr.is_terminal() && !JSON_LINES.load(Ordering::Relaxed) {
        let _ = write!(stderr, "\r\x1b[2K");
    }
}

/// Tells the user what went wrong and, if there is something, what to do.
pub(super) fn error(text: &str, hint: Option<&str>, exit_code: u8) {
    if JSON_LINES.load(Ordering::Relaxed) {
        event(&json!({ "event": "error", "text": text, "hint": hint, "exit_code": exit_code }));
        return;
    }
    line(&format!("{} {}", painted("error:", "1;31"), harmless(text)));
    if let Some(text) = hint {
        self::hint(text);
    }
}

/// Tells the user what to do about an error.
pub(super) fn hint(text: &str) {
    line(&format!("{} {}", painted("hint:", "1;33"), harmless(text)));
}

/// Text from a file, made harmless for a terminal.
pub(super) fn printable(text: &str) -> String {
    let harmless = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    text.chars().map(harmless).collect()
}

/// The start of a text, for a message.
pub(super) fn shortened(text: &str, letters: usize) -> String {
    let start: String = text.chars().take(letters).collect();
    if start.len() < text.len() { start + "..." } else { start }
}

/// The start of a text as a word of a message: in quotes, unless it is one.
pub(super) fn quoted(text: &str) -> String {
    let start = shortened(text, MOST_QUOTED);
    let plain = |letter: char| !letter.is_control() && !letter.is_whitespace() && letter != '"';
    if !text.is_empty() && text.chars().all(plain) {
        return start;
    }
    format!("\"{}\"", printable(&start.replace('"', "\\\"")))
}

/// A message, made harmless for a terminal: it may hold words of a file, and many. Its line breaks stay.
fn harmless(text: &str) -> String {
    let start = shortened(text, MOST_LETTERS);
    start.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// `word` in colour if stderr is a terminal that wants some (<https://no-color.org>).
fn painted(word: &str, style: &str) -> String {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    if unwanted || !io::stderr().is_terminal() {
        word.to_owned()
    } else {
        format!("\x1b[{style}m{word}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_files_do_nothing_to_a_terminal() {
        assert_eq!(harmless("a\x1b[2J\r\nb"), "a\\u{1b}[2J\\r\nb");
        assert_eq!(harmless(&"x".repeat(9999)).len(), 4003);
        assert_eq!(quoted("fox"), "fox");
        assert_eq!(quoted("a \"fox\"\n\x07"), r#""a \"fox\"\n\u{7}""#);
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted(&"x".repeat(200)).len(), 83);
    }
}
