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
        line(&format!("{} {text}", painted("note:", "1;36")));
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
    line(&format!("{} {text}", painted("error:", "1;31")));
    if let Some(text) = hint {
        self::hint(text);
    }
}

/// Tells the user what to do about an error.
pub(super) fn hint(text: &str) {
    line(&format!("{} {text}", painted("hint:", "1;33")));
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
