//! Token ids against those of transformers.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

mod golden;

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
