//! Single files against the tensors that diffusers has after loading the same model.

use std::fmt::Write as _;

use flux_rt::files;
use flux_rt::files::File;
use flux_rt::model::weights::checkpoint::Checkpoint;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;

use crate::goldens;

const TRANSFORMERS: [&str; 4] = [
    "transformer_bf16",
    "transformer_fp8_plain",
    "transformer_fp8_scale_weight",
    "transformer_fp8_weight_scale",
];

fn open(name: &str) -> Checkpoint {
    let path = goldens().join(format!("single_files/{name}.safetensors"));
    Checkpoint::open(&File::Disk(path)).unwrap()
}

/// `"shape sum hash"` of a tensor, as in `expected.json`.
fn fingerprint(reader: &mut Reader<'_>, name: &str) -> (String, f64, String) {
    let shape: Vec<String> = reader.shape(name).unwrap().iter().map(usize::to_string).collect();
    let values = reader.to_f32(name).unwrap();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut hash = String::new();
    for byte in &Sha256::digest(bytes)[..8] {
        write!(hash, "{byte:02x}").unwrap();
    }
    (shape.join("x"), values.iter().map(|value| f64::from(*value)).sum(), hash)
}

#[test]
fn every_tensor_is_the_one_diffusers_has() {
    let expected = files::read_text(&goldens().join("single_files/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    for (file, tensors) in expected["tensors"].as_object().unwrap() {
        let checkpoint = open(file);
        let held: Vec<Component> =
            Component::ALL.into_iter().filter(|component| component.is_in(&checkpoint)).collect();
        let [component] = held[..] else { panic!("{file} holds {held:?}") };
        let mut reader = Reader::new(&checkpoint, component).unwrap();
        let tensors = tensors.as_object().unwrap();
        for (name, expected) in tensors {
            let (shape, sum, hash) = fingerprint(&mut reader, name);
            let expected: Vec<&str> = expected.as_str().unwrap().split(' ').collect();
            let expected_sum: f64 = expected[1].parse().unwrap();
            assert_eq!(
                (shape.as_str(), hash.as_str()),
                (expected[0], expected[2]),
                "{file} {name}"
            );
            assert!(
                (sum - expected_sum).abs() <= 1e-9 * expected_sum.abs().max(1.0),
                "{file} {name}"
            );
        }
        if !file.contains("scale") {
            assert_eq!(reader.names().count(), tensors.len(), "{file}");
        }
    }
}

#[test]
fn a_model_has_the_same_names_in_every_form() {
    let plain = open(TRANSFORMERS[0]);
    let plain: Vec<String> =
        Reader::new(&plain, Component::Transformer).unwrap().names().map(String::from).collect();
    for file in TRANSFORMERS {
        let checkpoint = open(file);
        let reader = Reader::new(&checkpoint, Component::Transformer).unwrap();
        let guided = file != "transformer_fp8_weight_scale";
        let expected = plain.iter().filter(|name| guided || !name.contains("guidance_embedder"));
        assert!(reader.names().eq(expected), "{file}");
    }
}
