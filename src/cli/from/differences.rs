//! What is otherwise than when the picture was made, by the metadata of both pictures.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Map;
use serde_json::Value;

use crate::cli::from::Repeat;
use crate::cli::stream::MOST_QUOTED;
use crate::cli::stream::printable;
use crate::cli::stream::quoted;
use crate::cli::stream::shortened;
use crate::pipeline::Metadata;

/// Most notes about a picture, which may say anything.
const MOST_NOTES: usize = 20;
/// Hexadecimal digits of a digest that are shown: enough to tell files apart.
const DIGITS: usize = 12;

impl Repeat {
    /// Tells the user what of the new picture's metadata is not the picture's and was not named before.
    ///
    /// # Errors
    /// When a number is none that JSON has.
    pub(in crate::cli) fn note_differences(&mut self, again: &Metadata) -> Result<()> {
        // As a picture has it: numbers as they are written.
        let again: Map<String, Value> = serde_json::from_str(&again.to_json()?)?;
        let mut notes = differences(&self.receipt.fields, &again, &self.named);
        let more = notes.len().saturating_sub(MOST_NOTES);
        notes.truncate(MOST_NOTES);
        if more > 0 {
            notes.push(format!("{more} more differences to the picture's settings"));
        }
        notes.into_iter().for_each(|note| self.note(note));
        Ok(())
    }
}

/// A sentence for each field that differs.
fn differences(
    said: &Map<String, Value>,
    again: &Map<String, Value>,
    named: &BTreeSet<&'static str>,
) -> Vec<String> {
    let later = said.keys().filter(|field| !again.contains_key(*field));
    let fields = again.keys().chain(later);
    let fields = fields.filter(|field| !named.contains(field.as_str()) && *field != "schema");
    fields.flat_map(|field| difference(field, said.get(field), again.get(field))).collect()
}

fn difference(field: &str, said: Option<&Value>, again: Option<&Value>) -> Vec<String> {
    // Empty lists and tables are left out by some versions.
    if said == again || is_none(said) && is_none(again) {
        return Vec::new();
    }
    match (field, said, again) {
        ("weights", Some(Value::Object(said)), Some(Value::Object(again))) => weights(said, again),
        ("cache_record", Some(said), Some(again)) => decisions(said, again),
        ("plan", Some(_), Some(_)) => vec!["the plan of the mode is not the picture's".to_owned()],
        ("weights", None, _) => {
            vec!["the picture does not say which weights it was made with".to_owned()]
        }
        ("plan", ..) => {
            let own = if said.is_some() { "the picture" } else { "the model" };
            vec![format!("{own} has a plan of its own for the mode")]
        }
        ("cache_record", ..) => Vec::new(),
        _ => vec![format!(
            "{}: {} in the picture, {} here",
            quoted(field),
            shown(said),
            shown(again)
        )],
    }
}

fn is_none(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => quoted(text),
        Some(other) => shortened(&printable(&other.to_string()), MOST_QUOTED),
    }
}

/// The weight files that are not the same.
fn weights(said: &Map<String, Value>, again: &Map<String, Value>) -> Vec<String> {
    let digest = |value: Option<&Value>| {
        let text = value.and_then(Value::as_str)?;
        Some(format!("SHA-256 {}", quoted(&text.chars().take(DIGITS).collect::<String>())))
    };
    let none = || "none".to_owned();
    let files: BTreeSet<&String> = said.keys().chain(again.keys()).collect();
    let differing = files.into_iter().filter(|file| said.get(*file) != again.get(*file));
    differing
        .map(|file| {
            let [said, again] =
                [said, again].map(|files| digest(files.get(file)).unwrap_or_else(none));
            format!("weights {}: {said} in the picture, {again} here", quoted(file))
        })
        .collect()
}

/// The lists whose cache skipped other steps.
fn decisions(said: &Value, again: &Value) -> Vec<String> {
    let lists = again["lists"].as_object().into_iter().flatten();
    lists
        .filter_map(|(list, again)| {
            // Nothing is said of what is missing.
            said["lists"].get(list)?;
            let [said, again] = [&said["lists"][list], again].map(|list| &list["cached_steps"]);
            (said != again).then(|| {
                let [said, again] = [said, again].map(|steps| shown(Some(steps)));
                format!("the cache skipped steps {again} of list {list}, in the picture {said}")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn notes(said: Value, again: Value) -> Vec<String> {
        let [Value::Object(said), Value::Object(again)] = [said, again] else { unreachable!() };
        differences(&said, &again, &BTreeSet::from(["seed"]))
    }

    #[test]
    fn what_is_otherwise_is_named_once() {
        let said = json!({
            "schema": 1, "seed": 1, "device": "NVIDIA H100", "tier": "sm90", "guidance": 3.5,
            "weights": { "vae/a": "0123456789abcdef", "t5/b": "1", "flux/c": "2" },
            "later\u{1b}": [1], "lowered": [],
            "cache_record": { "lists": { "double": { "cached_steps": [8], "residual_diffs": 1 } } },
        });
        let again = json!({
            "schema": 1, "seed": 2, "device": "cpu", "guidance": 3.5,
            "weights": { "vae/a": "0123456789abcdeX", "t5/b": "9", "flux/c": "2" },
            "cache_record": { "lists": { "double": { "cached_steps": [9], "residual_diffs": 2 } } },
        });
        assert_eq!(
            notes(said, again),
            [
                "device: \"NVIDIA H100\" in the picture, cpu here",
                "weights t5/b: SHA-256 1 in the picture, SHA-256 9 here",
                "weights vae/a: SHA-256 0123456789ab in the picture, SHA-256 0123456789ab here",
                "the cache skipped steps [9] of list double, in the picture [8]",
                "tier: sm90 in the picture, none here",
                r#""later\u{1b}": [1] in the picture, none here"#,
            ]
        );
    }

    #[test]
    fn the_same_settings_have_no_differences() {
        let said = json!({ "seed": 1, "lowered": [], "plan": { "version": 1 }, "guidance": null });
        assert_eq!(notes(said, json!({ "plan": { "version": 1 }, "later": null })), [""; 0]);
        let own = |said, again| notes(said, again).concat();
        let plan = json!({ "plan": { "version": 1 } });
        assert_eq!(own(plan.clone(), json!({})), "the picture has a plan of its own for the mode");
        assert_eq!(own(json!({}), plan), "the model has a plan of its own for the mode");
    }
}
