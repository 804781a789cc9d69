//! Token ids against those of transformers.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

mod golden;

use std::path::Path;

use flux_rt::model::tokenizer::ClipTokenizer;
use flux_rt::model::tokenizer::T5Tokenizer;
use serde_json::Value;
use serde_json::json;

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
    let object = "vocab.json: expected a JSON object of tokens and ids: ";
    let marks = r#""<|startoftext|>":1,"<|endoftext|>":2"#;
    for (vocab, merges, expected) in [
        ("", merges, object),
        (r#"{"a":0}"#, merges, "vocab.json: field `<|startoftext|>`: expected an id, found none"),
        ("[1]", merges, object),
        ("[]", merges, object),
        (&format!(r#"{{"a":"b",{marks}}}"#), merges, object),
        (&format!(r#"{{"a":-1,{marks}}}"#), merges, object),
        (
            &format!(r#"{{"a":0,"a":3,{marks}}}"#),
            merges,
            "vocab.json: does not go with merges.txt: expected each token once, found `a` twice",
        ),
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

/// The message for T5's file with another value at a place.
fn t5_error(place: &str, value: Value) -> String {
    let sound = golden::read("dev/tokenizer_2/tokenizer.json");
    let mut description: Value = serde_json::from_slice(&sound).unwrap();
    *description.pointer_mut(place).unwrap() = value;
    let json = serde_json::to_vec(&description).unwrap();
    let error = T5Tokenizer::from_json(&json, Path::new("tokenizer.json")).err();
    error.map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn steps_that_let_texts_grow_are_refused() {
    let sequence = |steps: Value| json!({ "type": "Sequence", "normalizers": steps });
    let replace = |content: &str| json!({ "type": "Replace", "pattern": { "String": "a" }, "content": content });
    for (place, value, part) in [
        ("/normalizer", replace("aa"), "expected one letter in place of others, found `aa`"),
        ("/normalizer", sequence(json!(vec![replace("b"); 4])), "at most 3 `Replace`"),
        ("/normalizer", sequence(json!(vec![json!({ "type": "NFC" }); 9])), "at most 8 steps"),
        (
            "/normalizer",
            json!({ "type": "BertNormalizer" }),
            "Prepend and Replace, found `BertNormalizer`",
        ),
        ("/normalizer", sequence(json!([sequence(json!([]))])), "found `Sequence`"),
        ("/normalizer", json!({ "type": "NFC", "normalizers": [] }), "found some in `NFC`"),
        ("/pre_tokenizer", json!({ "type": "UnicodeScripts" }), "found `UnicodeScripts`"),
        ("/pre_tokenizer", json!({ "type": "Metaspace", "replacement": "aa" }), "character"),
        ("/added_tokens", json!(vec![added("a"); 1025]), "found more than any model has"),
        ("/added_tokens", json!([added(&"a".repeat(257))]), "at most 256 bytes, found 257"),
        ("/model/vocab", json!([["a".repeat(257), 0.0]]), "at most 256 bytes, found 257"),
    ] {
        let message = t5_error(place, value);
        assert!(
            message.starts_with("tokenizer.json: ") && message.contains(part),
            "{part}: {message}"
        );
    }
}

fn added(content: &str) -> Value {
    json!({ "id": 9, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true })
}

#[test]
fn older_and_newer_files_say_the_same() {
    let sound = golden::read("dev/tokenizer_2/tokenizer.json");
    let text = "two  words";
    let ids = |json: &[u8]| T5Tokenizer::from_json(json, Path::new("t")).unwrap().encode(text, 16);
    let expected = ids(&sound).unwrap();
    for metaspace in [
        json!({ "type": "Metaspace", "replacement": "▁", "add_prefix_space": true }),
        json!({ "type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": true }),
        json!({ "type": "Metaspace", "replacement": "▁", "add_prefix_space": true,
            "prepend_scheme": "always" }),
        json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true }),
    ] {
        let mut description: Value = serde_json::from_slice(&sound).unwrap();
        description["pre_tokenizer"] = metaspace.clone();
        assert_eq!(ids(description.to_string().as_bytes()).unwrap(), expected, "{metaspace}");
        let both = json!([{ "type": "WhitespaceSplit" }, metaspace]);
        description["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": both });
        assert_eq!(ids(description.to_string().as_bytes()).unwrap(), expected);
    }

    let sound = golden::read("schnell/tokenizer/tokenizer.json");
    let ids =
        |json: &[u8]| ClipTokenizer::from_json(json, Path::new("t")).unwrap().encode(text, 16);
    let expected = ids(&sound).unwrap();
    let mut description: Value = serde_json::from_slice(&sound).unwrap();
    let model = description["model"].as_object_mut().unwrap();
    // Merges as one text each, no type, and the fields that came later left out.
    for merge in model["merges"].as_array_mut().unwrap() {
        *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    }
    for later in ["type", "byte_fallback", "ignore_merges"] {
        model.remove(later);
    }
    assert_eq!(ids(description.to_string().as_bytes()).unwrap(), expected);
}

#[test]
fn prefixes_that_are_no_models_are_refused() {
    let sound = golden::read("schnell/tokenizer/tokenizer.json");
    for (field, value) in [
        ("continuing_subword_prefix", json!("##")),
        ("end_of_word_suffix", json!("é")),
        ("dropout", json!(0.5)),
    ] {
        let mut description: Value = serde_json::from_slice(&sound).unwrap();
        description["model"][field] = value;
        let json = description.to_string();
        let error = ClipTokenizer::from_json(json.as_bytes(), Path::new("t")).err().unwrap();
        assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
    }
}

/// Files of a real model, where somebody has some: `FLUX_RT_TOKENIZERS` names a folder as diffusers has it.
#[test]
fn real_files_load() {
    let Some(folder) = std::env::var_os("FLUX_RT_TOKENIZERS") else {
        println!("skipped: FLUX_RT_TOKENIZERS names no folder");
        return;
    };
    let folder = Path::new(&folder);
    let read = |name: &str| flux_rt::files::map(&folder.join(name)).unwrap();
    let t5 = T5Tokenizer::from_json(&read("tokenizer_2/tokenizer.json"), folder).unwrap();
    let ids = t5.encode("a red apple", 8).unwrap().ids;
    assert_eq!(ids, [3, 9, 1131, 8947, 1, 0, 0, 0]);
    let (vocab, merges) = (read("tokenizer/vocab.json"), read("tokenizer/merges.txt"));
    let clip = ClipTokenizer::from_vocab_and_merges(&vocab, folder, &merges, folder).unwrap();
    let ids = clip.encode("a red apple", 8).unwrap().ids;
    assert_eq!(ids, [49406, 320, 736, 3055, 49407, 49407, 49407, 49407]);
}
