//! Inputs that are made to take memory or time, larger than a corpus should keep: each is refused, or read,
//! within 1 s and 64 MiB.

use std::time::Duration;

use flux_rt::files;
use serde_json::Value;
use serde_json::json;

use crate::alone;
use crate::data;
use crate::fuzz::targets;
use crate::fuzz::targets::Target;
use crate::memory::measured;
use crate::watch::watched;

const MOST_TIME: Duration = Duration::from_secs(1);
const MOST_MEMORY: usize = 64 << 20;

struct Grown {
    name: String,
    target: Target,
    bytes: Vec<u8>,
}

fn grown(name: &str, target: Target, bytes: impl Into<Vec<u8>>) -> Grown {
    Grown { name: name.to_owned(), target, bytes: bytes.into() }
}

/// A file of the goldens as JSON.
fn golden(path: &str) -> Value {
    let bytes = files::map(&data::path("tests/goldens").join(path)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// T5's or CLIP's file with another value at a place.
fn tokenizer(name: &str, mut file: Value, place: &str, value: Value) -> Grown {
    *file.pointer_mut(place).unwrap() = value;
    grown(name, targets::tokenizer, file.to_string())
}

/// Different words of `letters` letters.
fn words(count: usize, letters: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{number:0>letters$x}"))
}

/// Normalizers and pre-tokenizers that let texts grow, or take long to make.
fn steps() -> Vec<Grown> {
    let t5 = || golden("dev/tokenizer_2/tokenizer.json");
    let sequence = |steps: Vec<Value>| json!({ "type": "Sequence", "normalizers": steps });
    let replace = |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
    let doubled = replace(json!({ "String": "a" }), "aa");
    let regexes =
        |pattern: &str, count| sequence(vec![replace(json!({ "Regex": pattern }), ""); count]);
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true });
    let splits = |count| json!({ "type": "Sequence", "pretokenizers": vec![bytes.clone(); count] });
    vec![
        tokenizer(
            "a letter doubled 40 times",
            t5(),
            "/normalizer",
            sequence(vec![doubled.clone(); 40]),
        ),
        tokenizer("a letter doubled", t5(), "/normalizer", doubled),
        tokenizer("20,000 regexes", t5(), "/normalizer", regexes(r"\w{16}", 20_000)),
        tokenizer("three regexes", t5(), "/normalizer", regexes(r"\w{16}", 3)),
        tokenizer("a long regex", t5(), "/normalizer", regexes(&r"\w".repeat(128), 1)),
        tokenizer(
            "a long regex, counted",
            t5(),
            "/normalizer",
            regexes(&format!("({}){{16}}", r"\w".repeat(120)), 1),
        ),
        tokenizer("8 byte levels", t5(), "/pre_tokenizer", splits(8)),
        tokenizer("20,000 byte levels", t5(), "/pre_tokenizer", splits(20_000)),
        tokenizer(
            "arrays for a normalizer",
            t5(),
            "/normalizer",
            json!(vec![json!([]); 2_000_000]),
        ),
        tokenizer("steps in steps", t5(), "/normalizer", sequence(vec![regexes("a", 20_000); 8])),
    ]
}

/// Vocabularies and other lists that are too long.
fn lists() -> Vec<Grown> {
    let t5 = || golden("dev/tokenizer_2/tokenizer.json");
    let clip = || golden("schnell/tokenizer/tokenizer.json");
    let added = |content: String| {
        json!({ "id": 9, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": true, "special": false })
    };
    let scores = |words: Vec<String>| {
        let rest = words.into_iter().map(|word| json!([word, -1.0]));
        let marks = ["<pad>", "</s>", "<unk>"].map(|mark| json!([mark, 0.0]));
        Value::Array(marks.into_iter().chain(rest).collect())
    };
    let ids: serde_json::Map<String, Value> =
        words(600_000, 6).enumerate().map(|(id, word)| (word, json!(id))).collect();
    let many: Vec<Value> = words(100_000, 40).map(added).collect();
    let some: Vec<Value> = words(1_000, 16).map(added).collect();
    let merges: Vec<Value> = words(500_000, 5).map(|word| json!([word, "b"])).collect();
    vec![
        tokenizer("100,000 added tokens", t5(), "/added_tokens", Value::Array(many)),
        tokenizer("1,000 added tokens", t5(), "/added_tokens", Value::Array(some)),
        tokenizer(
            "an added token of 6 million letters",
            t5(),
            "/added_tokens",
            json!([added("a".repeat(6_000_000))]),
        ),
        tokenizer(
            "a token of 6 million letters",
            t5(),
            "/model/vocab",
            scores(vec!["a".repeat(6_000_000)]),
        ),
        tokenizer(
            "4,000 tokens of 250 letters",
            t5(),
            "/model/vocab",
            scores(words(4_000, 250).collect()),
        ),
        tokenizer(
            "470 tokens of 250 letters",
            t5(),
            "/model/vocab",
            scores(words(470, 250).map(|word| word.chars().rev().collect()).collect()),
        ),
        tokenizer("65,000 tokens", t5(), "/model/vocab", scores(words(65_000, 4).collect())),
        tokenizer("300,000 tokens", t5(), "/model/vocab", scores(words(300_000, 5).collect())),
        tokenizer("600,000 ids", clip(), "/model/vocab", Value::Object(ids)),
        tokenizer("500,000 merges", clip(), "/model/merges", Value::Array(merges)),
    ]
}

/// Other fields, and files that are none.
fn fields() -> Vec<Grown> {
    let clip = || golden("schnell/tokenizer/tokenizer.json");
    vec![
        tokenizer(
            "a prefix inside a letter",
            clip(),
            "/model/continuing_subword_prefix",
            json!("\u{e9}\u{e9}\u{e9}"),
        ),
        tokenizer("a suffix", clip(), "/model/end_of_word_suffix", json!("x".repeat(1 << 20))),
        tokenizer("by chance", clip(), "/model/dropout", json!(0.5)),
        grown("spaces", targets::tokenizer, " ".repeat(16 << 20)),
        grown("arrays", targets::tokenizer, format!("{{\"a\":[{}[]]}}", "[],".repeat(5 << 20))),
        grown(
            "a vocabulary of arrays",
            targets::tokenizer,
            format!("{{\"a\":[{}[]]}}\x01a b", "[],".repeat(2 << 20)),
        ),
        grown(
            "a long merge",
            targets::tokenizer,
            format!("{{\"a\":0}}\x01{} b", "a".repeat(4 << 20)),
        ),
        grown("a long line", targets::tokenizer, format!("{{\"a\":0}}\x01{}", "a".repeat(4 << 20))),
    ]
}

/// A picture with this text under the keyword of the settings, packed.
fn picture(text: &str) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.add_ztxt_chunk("flux-rt".to_owned(), text.to_owned()).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0; 3]).unwrap();
    drop(writer);
    file
}

fn settings() -> Vec<Grown> {
    let arrays =
        |bytes: usize| format!(r#"{{"prompt":"","plan":[{}[]]}}"#, "[],".repeat(bytes / 3));
    let fields: Vec<String> = (0..40_000).map(|field| format!("\"{field:x}\":[]")).collect();
    vec![
        grown("8 MB of arrays in a picture", targets::metadata, picture(&arrays(8_000_000))),
        grown("500 kB of arrays in a picture", targets::metadata, picture(&arrays(500_000))),
        grown(
            "40,000 fields",
            targets::metadata,
            picture(&format!("{{\"prompt\":\"\",{}}}", fields.join(","))),
        ),
    ]
}

fn others() -> Vec<Grown> {
    let entry = |blocks: String| {
        json!({ "version": 1, "name": "x", "double": [{ "blocks": blocks }] }).to_string()
    };
    let entries = vec![json!({ "blocks": "0" }); 900_000];
    let plan = json!({ "version": 1, "name": "x", "double": entries }).to_string();
    let keys: String = (0..900_000).map(|key| format!("a{key}=[]\n")).collect();
    vec![
        grown("a plan of 900,000 entries", targets::plan, plan),
        grown("a plan of 8 million ranges", targets::plan, entry("0+".repeat(8_000_000) + "0")),
        grown("a plan of 100,000 ranges", targets::plan, entry("0+".repeat(100_000) + "0")),
        grown("a cache of 900,000 keys", targets::cache, keys),
        grown("a cache of arrays", targets::cache, format!("a=[{}]", "[],".repeat(5 << 20))),
        grown(
            "a cache of 60 kB of arrays",
            targets::cache,
            format!("a=[{}]", "[],".repeat(20_000)),
        ),
        grown(
            "an index with a long name",
            targets::index,
            json!({ "weight_map": { "a": "x".repeat(4_000_000) } }).to_string(),
        ),
    ]
}

#[test]
fn inputs_made_to_take_memory_or_time_get_neither() {
    let _alone = alone();
    let (mut longest, mut most) = ((Duration::ZERO, ""), (0, ""));
    let mut wrong = Vec::new();
    let all: Vec<Grown> =
        [steps(), lists(), fields(), settings(), others()].into_iter().flatten().collect();
    for Grown { name, target, bytes } in &all {
        let run = || watched(name, || measured(|| target(bytes)).1);
        let mut outcome = run();
        if outcome.time > MOST_TIME {
            // Another process may have had the machine.
            outcome = run();
        }
        let memory = outcome.result.unwrap_or(usize::MAX);
        if outcome.panics > 0 || memory > MOST_MEMORY || outcome.time > MOST_TIME {
            let (panics, time) = (outcome.panics, outcome.time);
            wrong.push(format!("{name}: {panics} panics, {} KiB, {time:?}", memory >> 10));
        }
        longest = longest.max((outcome.time, name));
        most = most.max((memory, name));
    }
    println!(
        "{} inputs: longest {longest:?}, most memory {} KiB ({})",
        all.len(),
        most.0 >> 10,
        most.1
    );
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}
