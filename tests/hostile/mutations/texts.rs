//! What can be wrong with the JSON and text files of a model.

use flux_rt::elastic::Mode;
use serde_json::Value;
use serde_json::json;

use crate::demo::Demo;
use crate::mutations::Case;
use crate::mutations::Change;
use crate::random::Random;

/// How many other values a field gets.
const VALUES: usize = 5;

/// Fields whose values make another model, rather than none: none of them is refused but what is absurd.
const SOUND: [(&str, &[&str]); 6] = [
    ("base_shift", &["-1", "0"]),
    ("max_shift", &["-1", "0"]),
    ("shift_factor", &["-1", "0"]),
    ("model_max_length", &["nothing", "null", "1e+30", "18446744073709551615", "4294967296"]),
    ("double", &["nothing", "[]"]),
    ("single", &["nothing", "[]"]),
];

/// A JSON file with a field that is missing or absurd, once each, and as broken text.
pub(super) fn fields(file: &'static str, random: &mut Random, cases: &mut Vec<Case>) {
    let original = Demo::original(file);
    let document: Value = serde_json::from_slice(&original).unwrap();
    for (field, found) in document.as_object().unwrap() {
        let absurd = [
            None,
            Some(json!(null)),
            Some(json!(-1)),
            Some(json!(0)),
            Some(json!(1e30)),
            Some(json!(u64::MAX)),
            Some(json!(1_u64 << 32)),
            Some(json!("x")),
            Some(json!([])),
            Some(json!({})),
            Some(json!([[[]]])),
        ];
        let words =
            |value: &Option<Value>| value.as_ref().map_or("nothing".into(), Value::to_string);
        let sound =
            SOUND.iter().find(|(name, _)| name == field).map_or(&[][..], |(_, sound)| sound);
        let fits = |value: &Option<Value>| {
            value.as_ref() != Some(found) && !sound.contains(&words(value).as_str())
        };
        let mut values: Vec<Option<Value>> = absurd.into_iter().filter(fits).collect();
        while values.len() > VALUES {
            values.remove(random.below(values.len()));
        }
        for value in values {
            let mut changed = document.clone();
            let name = format!("{field} is {}", words(&value));
            match value {
                Some(value) => changed[field] = value,
                None => drop(changed.as_object_mut().unwrap().shift_remove(field)),
            }
            push(cases, file, name, changed.to_string().into_bytes());
        }
    }
    for wrong in ["", "[]", "null", "{}x", "{\"a\":", "\u{feff}{}"] {
        push(cases, file, format!("`{wrong}`"), wrong.into());
    }
    push(cases, file, "deep".into(), "[".repeat(1 << 20).into_bytes());
    let arrays = format!("{{\"a\":[{}[]],", "[],".repeat(80_000)).into_bytes();
    cases.push(case(file, "80,000 arrays".into(), Change::Start(arrays, 1)));
    push(cases, file, "too long".into(), " ".repeat(17 << 20).into_bytes());
    push(cases, file, "not UTF-8".into(), [&original[..], b"\xff"].concat());
    text(file, 6, random, cases);
}

/// A text that is cut, or has another byte in it.
pub(super) fn text(file: &'static str, count: usize, random: &mut Random, cases: &mut Vec<Case>) {
    let length = Demo::original(file).trim_ascii_end().len();
    for _ in 0..count {
        let at = random.below(length);
        cases.push(case(file, format!("cut at {at}"), Change::Cut(at)));
    }
    for _ in 0..count {
        let at = random.below(length);
        let byte = *random.of(b"\0\x80\xff");
        let name = format!("byte {at} is {byte}");
        let start = [&Demo::original(file)[..at], &[byte]].concat();
        cases.push(case(file, name, Change::Start(start, at + 1)));
    }
}

fn push(cases: &mut Vec<Case>, file: &'static str, name: String, bytes: Vec<u8>) {
    cases.push(case(file, name, Change::Start(bytes, usize::MAX)));
}

fn case(file: &'static str, name: String, change: Change) -> Case {
    let mode = if file.starts_with("plans/") { Mode::L } else { Mode::Xl };
    Case { name, file, mode, change }
}
