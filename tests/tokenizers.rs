//! Token ids against those of transformers.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

mod golden;

use std::path::Path;

use flux_rt::model::tokenizer::ClipTokenizer;
use flux_rt::model::tokenizer::T5Tokenizer;
use serde_json::Value;

fn clip(folder: &str) -> ClipTokenizer {
    let file = |name: &str| format!("{folder}/tokenizer/{name}");
    if folder == "schnell" {
        let json = file("tokenizer.json");
        return ClipTokenizer::from_json(&golden::read(&json), &golden::path(&json)).unwrap();
    }
    let (vocab, merges) = (file("vocab.json"), file("merges.txt"));
    ClipTokenizer::from_vocab_and_merges(
        &golden::read(&vocab),
        &golden::path(&vocab),
        &golden::read(&merges),
        &golden::path(&merges),
    )
    .unwrap()
}

fn t5(folder: &str) -> T5Tokenizer {
    let json = format!("{folder}/tokenizer_2/tokenizer.json");
    T5Tokenizer::from_json(&golden::read(&json), &golden::path(&json)).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn prompts_give_the_ids_of_transformers() {
    for folder in ["dev", "schnell"] {
        let tokens = &golden::json(&format!("{folder}/expected.json"))["tokens"];
        let (clip, t5) = (clip(folder), t5(folder));
        let t5_length = usize::try_from(tokens["t5_truncated_at"].as_u64().unwrap()).unwrap();
        for list in ["prompts", "special"] {
            for row in tokens[list].as_array().unwrap() {
                let text = row["text"].as_str().unwrap();
                let (expected, actual) = (ids(&row["clip"]), clip.encode(text, 77).unwrap());
                assert_eq!(actual.ids[..expected.len()], expected, "{folder} CLIP `{text}`");
                assert!(actual.ids[expected.len()..].iter().all(|&id| id == clip.end_id()));
                assert_eq!(actual.ids.len(), 77);
                assert_eq!(actual.dropped > 0, row["clip_truncated"] == true, "{text}");

                let (expected, actual) = (ids(&row["t5"]), t5.encode(text, t5_length).unwrap());
                assert_eq!(actual.ids[..expected.len()], expected, "{folder} T5 `{text}`");
                assert!(actual.ids[expected.len()..].iter().all(|&id| id == 0));
                assert_eq!(actual.ids.len(), t5_length);
                assert_eq!(actual.dropped > 0, row["t5_truncated"] == true, "{text}");
            }
        }
        for row in tokens["padded"].as_array().unwrap() {
            let text = row["text"].as_str().unwrap();
            assert_eq!(clip.encode(text, 77).unwrap().ids, ids(&row["clip_77"]), "`{text}`");
            assert_eq!(t5.encode(text, 24).unwrap().ids, ids(&row["t5_24"]), "`{text}`");
        }
    }
}

/// The message for a CLIP tokenizer from these two files.
fn clip_error(vocab: &str, merges: &str) -> String {
    let (vocab_path, merges_path) = (Path::new("vocab.json"), Path::new("merges.txt"));
    ClipTokenizer::from_vocab_and_merges(
        vocab.as_bytes(),
        vocab_path,
        merges.as_bytes(),
        merges_path,
    )
    .err()
    .map(|error| error.to_string())
    .unwrap_or_default()
}

#[test]
fn a_tokenizer_by_hand() {
    let vocab = r#"{"a":0,"b":1,"a</w>":2,"b</w>":3,"ab</w>":4,"Ã©</w>":5,"Ã":6,"©</w>":7,
        "<|startoftext|>":8,"<|endoftext|>":9}"#;
    let merges = "#version: 0.2\na b</w>\nÃ ©</w>\n";
    let paths = (Path::new("vocab.json"), Path::new("merges.txt"));
    let clip =
        ClipTokenizer::from_vocab_and_merges(vocab.as_bytes(), paths.0, merges.as_bytes(), paths.1)
            .unwrap();
    // Lower case, white space, a word alone, composed and decomposed é, and an unknown sign.
    for (text, expected) in [
        ("AB \n b", vec![8, 4, 3, 9]),
        ("aab", vec![8, 0, 4, 9]),
        ("\u{e9} e\u{301}", vec![8, 5, 5, 9]),
        ("!", vec![8, 9, 9]),
    ] {
        let mut padded = expected.clone();
        padded.resize(6, 9);
        assert_eq!(clip.encode(text, 6).unwrap().ids, padded, "{text}");
    }
    let cut = clip.encode("a b a b a", 4).unwrap();
    assert_eq!((cut.ids, cut.dropped), (vec![8, 2, 3, 9], 3));
    assert_eq!((clip.end_id(), clip.largest_id()), (9, 9));
    assert!(clip.encode("a", 1).is_err());
}

#[test]
fn damaged_clip_files_are_named() {
    let merges = "#version: 0.2\n";
    let marks = r#""<|startoftext|>":1,"<|endoftext|>":2"#;
    for (vocab, merges, expected) in [
        ("", merges, "vocab.json: expected a JSON object of tokens and ids: "),
        (r#"{"a":0}"#, merges, "vocab.json: field `<|startoftext|>`: expected an id, found none"),
        ("[1]", merges, "vocab.json: field `<|startoftext|>`: expected an id, found none"),
        (&format!(r#"{{"a":"b",{marks}}}"#), merges, "vocab.json: does not go with merges.txt: "),
        (&format!(r#"{{"a":-1,{marks}}}"#), merges, "vocab.json: does not go with merges.txt: "),
        (
            &format!(r#"{{"a":7,{marks}}}"#),
            merges,
            "vocab.json: field `<|endoftext|>`: expected the largest id, 7, found 2",
        ),
        (
            &format!(r#"{{"a":0,{marks}}}"#),
            "#version: 0.2\na b",
            "vocab.json: does not go with merges.txt: Token `b` out of vocabulary",
        ),
        (
            &format!(r#"{{"a":0,{marks}}}"#),
            "a c\n",
            "vocab.json: does not go with merges.txt: Token `c` out of vocabulary",
        ),
        (
            &format!(r#"{{"a":0,{marks}}}"#),
            "#version: 0.2\n\nab",
            "merges.txt: line 3: expected two tokens, found `ab`",
        ),
    ] {
        let message = clip_error(vocab, merges);
        assert!(message.starts_with(expected), "{message}, expected {expected}");
    }
}

#[test]
fn files_of_another_kind_are_refused() {
    let clip = golden::read("schnell/tokenizer/tokenizer.json");
    let t5 = golden::read("schnell/tokenizer_2/tokenizer.json");
    let path = Path::new("tokenizer.json");
    let message = |error: Option<flux_rt::Error>| error.unwrap().to_string();
    assert_eq!(
        message(ClipTokenizer::from_json(&t5, path).err()),
        "tokenizer.json: field `model.type`: expected BPE, found Unigram"
    );
    assert_eq!(
        message(T5Tokenizer::from_json(&clip, path).err()),
        "tokenizer.json: field `model.type`: expected Unigram, found BPE"
    );
    let json = r#"{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":null,
        "model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["</s>",0.0]]}}"#;
    assert_eq!(
        message(T5Tokenizer::from_json(json.as_bytes(), path).err()),
        "tokenizer.json: field `vocab`: expected a token `<pad>`, found none"
    );
    for cut in (0..t5.len()).step_by(997) {
        let message = message(T5Tokenizer::from_json(&t5[..cut], path).err());
        assert!(message.starts_with("tokenizer.json: expected a `tokenizer.json`: "), "{message}");
    }
}

#[test]
fn a_damaged_character_map_is_an_error() {
    let sound = golden::read("schnell/tokenizer_2/tokenizer.json");
    let mut description: Value = serde_json::from_slice(&sound).unwrap();
    let map = &mut description["normalizer"]["precompiled_charsmap"];
    let cut = map.as_str().unwrap()[..40].to_owned();
    *map = Value::from(cut);
    let json = serde_json::to_vec(&description).unwrap();
    let error = T5Tokenizer::from_json(&json, Path::new("tokenizer.json")).err().unwrap();
    assert_eq!(
        error.to_string(),
        "tokenizer.json: expected a `tokenizer.json`: expected a sound `precompiled_charsmap`, \
         found an array of 512 numbers in 26 bytes"
    );
}
