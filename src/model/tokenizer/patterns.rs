//! Regular expressions in a `tokenizer.json`, checked before they are compiled: some short ones take minutes
//! and gigabytes, since `(\w{200}){200}` stands for 40,000 copies of a class of 770 ranges.

use serde_json::Value;

/// CLIP's, the longest that FLUX.1 has, is 94 bytes long.
const MOST_BYTES: usize = 256;
/// T5's is ` {2,}`.
const MOST_TIMES: u64 = 16;

/// Checks every pattern in a normalizer or a splitter.
pub(super) fn check(part: &Value) -> Result<(), String> {
    match part {
        Value::Array(parts) => parts.iter().try_for_each(check),
        Value::Object(fields) => fields.iter().try_for_each(|(field, value)| match value {
            Value::String(pattern) if field == "Regex" || field == "String" => {
                check_pattern(pattern, field == "Regex").map_err(|expected| {
                    let start: String = pattern.chars().take(80).collect();
                    format!("expected a pattern {expected}, found `{start}`")
                })
            }
            other => check(other),
        }),
        _ => Ok(()),
    }
}

/// Fails with what a pattern should be.
fn check_pattern(pattern: &str, is_regex: bool) -> Result<(), String> {
    if pattern.len() > MOST_BYTES {
        return Err(format!("of at most {MOST_BYTES} bytes"));
    }
    let braces = pattern.match_indices('{').filter(|(at, _)| {
        let before = &pattern[..*at];
        !before.ends_with("\\p") && !before.ends_with("\\P")
    });
    let mut counted = braces.filter(|_| is_regex).map(|(at, _)| at + 1);
    let times = |at: usize| {
        let inside = pattern[at..].split('}').next().unwrap_or_default();
        let number = |part: &str| part.chars().filter(char::is_ascii_digit).collect::<String>();
        inside
            .split(',')
            .map(number)
            .all(|n| n.is_empty() || n.parse().is_ok_and(|n: u64| n <= MOST_TIMES))
    };
    match (counted.next(), counted.next()) {
        (None, _) => Ok(()),
        (Some(at), None) if times(at) => Ok(()),
        _ => Err(format!("with at most one counted repetition, of up to {MOST_TIMES} times")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_of_flux_pass_and_large_ones_do_not() {
        let regex = |pattern: &str| check(&json!([{ "pattern": { "Regex": pattern } }]));
        for pattern in [r" {2,}", r"\s+", r"'s|[\p{L}]+|[\P{N}]|[^\s\p{L}\p{N}]+", "a{,16}"] {
            regex(pattern).unwrap();
        }
        for pattern in
            [r"\w{17}", r"((\w{9}){9})", r"(\w{2,200})", r"(?x)\w{2 0 0}", &"a".repeat(257)]
        {
            let error = regex(pattern).unwrap_err();
            assert!(
                error.contains("expected a pattern") && error.contains(&pattern[..4]),
                "{error}"
            );
        }
        check(&json!({ "pattern": { "String": "{2,200}" } })).unwrap();
        check(&json!({ "pattern": { "String": " ".repeat(257) } })).unwrap_err();
    }
}
