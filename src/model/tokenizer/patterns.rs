//! Regular expressions in a `tokenizer.json`, checked before they are compiled: some short ones take minutes
//! and gigabytes, since `(\w{200}){200}` stands for 40,000 copies of a class of 770 ranges.

use crate::error::quoted;
use crate::model::tokenizer::description::Pattern;

/// Of all patterns of a file. CLIP's are 97 bytes long, the longest that FLUX.1 has.
const MOST_BYTES: usize = 256;
/// T5's is ` {2,}`.
const MOST_TIMES: u64 = 16;
/// What looks around or back takes a time that grows with any power of the text's length; FLUX.1 has none.
const LOOKING: [&str; 8] = ["(?", "++", "*+", "?+", "}+", r"\k", r"\g", r"\G"];

/// What the patterns of a file may still be.
#[derive(Debug)]
pub(super) struct Patterns {
    bytes: usize,
    counted: usize,
}

impl Patterns {
    pub(super) const ALL: Self = Self { bytes: MOST_BYTES, counted: 1 };

    /// Fails with what a pattern should be.
    pub(super) fn check(&mut self, pattern: &Pattern) -> Result<(), String> {
        let (Pattern::String(text) | Pattern::Regex(text)) = pattern;
        let fail = |expected: String| Err(format!("expected {expected}, found `{}`", quoted(text)));
        let Some(bytes) = self.bytes.checked_sub(text.len()) else {
            return fail(format!("patterns of at most {MOST_BYTES} bytes together"));
        };
        self.bytes = bytes;
        let Pattern::Regex(regex) = pattern else { return Ok(()) };
        let digit = |at: usize| regex[at + 1..].starts_with(|next: char| next.is_ascii_digit());
        if LOOKING.iter().any(|part| regex.contains(part))
            || regex.match_indices('\\').any(|(at, _)| digit(at))
        {
            return fail("a pattern that looks neither around nor back".to_owned());
        }
        let counted: Vec<usize> = counted(regex).collect();
        let Some(left) = self.counted.checked_sub(counted.len()) else {
            return fail("patterns with at most one counted repetition together".to_owned());
        };
        self.counted = left;
        match counted.iter().all(|at| times(&regex[*at..])) {
            true => Ok(()),
            false => fail(format!("a counted repetition of up to {MOST_TIMES} times")),
        }
    }
}

/// Where the braces are that count.
fn counted(regex: &str) -> impl Iterator<Item = usize> {
    let braces = regex.match_indices('{').map(|(at, _)| at);
    let counts = |at: &usize| !regex[..*at].ends_with("\\p") && !regex[..*at].ends_with("\\P");
    braces.filter(counts).map(|at| at + 1)
}

/// Whether braces with such an inside count no further than they may.
fn times(inside: &str) -> bool {
    let inside = inside.split('}').next().unwrap_or_default();
    let number = |part: &str| part.chars().filter(char::is_ascii_digit).collect::<String>();
    let few = |n: String| n.is_empty() || n.parse().is_ok_and(|n: u64| n <= MOST_TIMES);
    inside.split(',').map(number).all(few)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> Result<(), String> {
        let mut patterns = Patterns { ..Patterns::ALL };
        patterns.check(&Pattern::Regex(pattern.to_owned()))
    }

    #[test]
    fn patterns_of_flux_pass_and_large_ones_do_not() {
        for pattern in [r" {2,}", r"\s+", r"'s|<\|a\|>|[\p{L}]+|[\P{N}]|[^\s\p{L}\p{N}]+", "a{,16}"]
        {
            regex(pattern).unwrap();
        }
        for pattern in [
            r"\w{17}",
            r"((\w{9}){9})",
            r"(\w{2,200})",
            r"(?x)\w{2 0 0}",
            r"(a)\1b",
            r"(a+)*(?=b)",
            r"(a+)++b",
            &"a".repeat(257),
        ] {
            let error = regex(pattern).unwrap_err();
            assert!(error.contains("expected") && error.contains(&pattern[..4]), "{error}");
        }
    }

    #[test]
    fn all_patterns_of_a_file_count_together() {
        let text = |length| Pattern::String(" ".repeat(length));
        let mut patterns = Patterns { ..Patterns::ALL };
        patterns.check(&Pattern::String("{2,200}".to_owned())).unwrap();
        patterns.check(&Pattern::Regex(r"\w{16}".to_owned())).unwrap();
        let error = patterns.check(&Pattern::Regex(r"\w{16}".to_owned())).unwrap_err();
        assert!(error.contains("one counted repetition together"), "{error}");
        patterns.check(&text(256 - 7 - 6 - 6)).unwrap();
        let error = patterns.check(&text(1)).unwrap_err();
        assert!(error.contains("256 bytes together"), "{error}");
    }
}
