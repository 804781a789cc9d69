//! Files that are cut, forged or inconsistent: each is refused with what was expected and found.

use std::path::PathBuf;

use flux_rt::Error;
use flux_rt::files;
use flux_rt::files::File;
use flux_rt::model::config::FluxConfig;
use flux_rt::model::weights::checkpoint::Checkpoint;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::flux::FluxWeights;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::goldens;
use crate::writer;
use crate::writer::Writer;

struct Case {
    folder: TempDir,
}

impl Case {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self, bytes: &[u8]) -> flux_rt::Result<Checkpoint> {
        Checkpoint::open(&writer::write(&self.path(), bytes))
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.safetensors")
    }

    /// The message for a file, which must name it.
    fn message(&self, bytes: &[u8]) -> String {
        let message = self.open(bytes).unwrap_err().to_string();
        let name = self.path().display().to_string();
        assert!(message.starts_with(&name), "{message}");
        message[name.len()..].into()
    }

    fn header(&self, header: &Value, data: &[u8]) -> String {
        self.message(&writer::assemble(&header.to_string(), data))
    }
}

fn sound() -> Writer {
    let mut writer = Writer::default();
    writer.f32("a", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    writer.add("b", "U8", &[3], &[1, 2, 3]);
    writer.add("empty", "F32", &[0, 5], &[]);
    writer.add("scalar", "BF16", &[], &[0, 0]);
    writer.metadata = Some(json!({"format": "pt"}));
    writer
}

fn tensor(shape: &Value, begin: u64, end: u64) -> Value {
    json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]})
}

#[test]
fn a_sound_file_opens() {
    let checkpoint = Case::new().open(&sound().bytes()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b", "empty", "scalar"]);
}

#[test]
fn a_file_cut_anywhere_is_refused_with_both_lengths() {
    let case = Case::new();
    let bytes = sound().bytes();
    for length in 0..bytes.len() {
        let message = case.message(&bytes[..length]);
        assert!(message.contains(&format!("found {length}")), "{length}: {message}");
    }
    let message = case.message(&bytes[..bytes.len() - 1]);
    assert!(message.contains(&format!("cut short: expected {} bytes", bytes.len())), "{message}");
    let longer = [&bytes[..], b"x"].concat();
    assert!(case.message(&longer).contains("some belong to no tensor"));
}

#[test]
fn the_header_is_limited() {
    let case = Case::new();
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(case.message(&huge).contains("at most 8388608 bytes, found 18446744073709551615"));
    let spaces = " ".repeat((8 << 20) + 1 - 2);
    assert!(case.message(&writer::assemble(&format!("{{}}{spaces}"), &[])).contains("8388609"));
    let message = case.message(&writer::assemble(" {}", &[]));
    assert!(message.contains("starts with `{`"), "{message}");
    assert!(case.message(&writer::assemble("", &[])).contains("starts with `{`"));
    assert!(case.message(&writer::assemble("{\"a\":", &[])).contains("not valid"));
    assert!(case.message(&writer::assemble("{}x", &[])).contains("not valid"));
}

#[test]
fn there_are_limits_on_tensors_ranks_and_names() {
    let case = Case::new();
    let many = |count: usize| {
        let empty = |i: usize| (format!("t{i}"), tensor(&json!([0]), 0, 0));
        Value::Object((0..count).map(empty).collect())
    };
    assert!(case.open(&writer::assemble(&many(65_536).to_string(), &[])).is_ok());
    assert!(case.header(&many(65_537), &[]).contains("at most 65536 tensors"));

    let ranked = |rank: usize| json!({"a": tensor(&json!(vec![1; rank]), 0, 4)});
    assert!(case.open(&writer::assemble(&ranked(8).to_string(), &[0; 4])).is_ok());
    assert!(case.header(&ranked(9), &[0; 4]).contains("tensor `a`: expected at most 8 dimensions"));

    let named = |name: &str| json!({name: tensor(&json!([1]), 0, 4)});
    assert!(case.open(&writer::assemble(&named(&"n".repeat(256)).to_string(), &[0; 4])).is_ok());
    for name in ["", &"n".repeat(257), "tab\t", "nul\0", "é"] {
        let message = case.header(&named(name), &[0; 4]);
        assert!(message.contains("1 to 256 printable"), "{name:?}: {message}");
    }
}

#[test]
fn no_key_may_occur_twice() {
    let case = Case::new();
    let info = tensor(&json!([1]), 0, 4);
    let twice = format!("{{\"a\":{info},\"a\":{info}}}");
    assert!(case.message(&writer::assemble(&twice, &[0; 4])).contains("found `a` twice"));
    // The same name in another spelling.
    let escaped = format!("{{\"a\":{info},\"\\u0061\":{info}}}");
    assert!(case.message(&writer::assemble(&escaped, &[0; 4])).contains("found `a` twice"));
    let metadata = "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}";
    assert!(case.message(&writer::assemble(metadata, &[])).contains("found `k` twice"));
    let again = "{\"__metadata__\":{},\"__metadata__\":{}}";
    assert!(case.message(&writer::assemble(again, &[])).contains("`__metadata__` twice"));
    let field = "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    assert!(case.message(&writer::assemble(field, &[0; 4])).contains("duplicate field `dtype`"));
}

#[test]
fn tensors_must_cover_the_data_exactly() {
    let case = Case::new();
    let four = json!([1]);
    let two = |a: Value, b: Value| json!({"a": a, "b": b});
    let gap = two(tensor(&four, 0, 4), tensor(&four, 5, 9));
    let message = case.header(&gap, &[0; 9]);
    assert!(message.contains("tensor `b`") && message.contains("begin at 4"), "{message}");
    let overlap = two(tensor(&four, 0, 4), tensor(&four, 3, 7));
    assert!(case.header(&overlap, &[0; 7]).contains("begin at 4"));
    let same = two(tensor(&four, 0, 4), tensor(&four, 0, 4));
    assert!(case.header(&same, &[0; 4]).contains("begin at 4"));
    let late = json!({"a": tensor(&four, 1, 5)});
    assert!(case.header(&late, &[0; 5]).contains("begin at 0"));
    let backward = json!({"a": tensor(&json!([0]), 0, 0), "b": tensor(&four, 4, 0)});
    assert!(case.header(&backward, &[0; 4]).contains("tensor `b`"));
    let size = json!({"a": tensor(&json!([2]), 0, 4)});
    let message = case.header(&size, &[0; 4]);
    assert!(message.contains("8 bytes for F32 [2]") && message.contains("4 bytes"), "{message}");
}

#[test]
fn sizes_cannot_overflow() {
    let case = Case::new();
    let most = u64::MAX;
    for shape in [json!([most, 2]), json!([most, most, 0]), json!([1_u64 << 62, 4])] {
        let message = case.header(&json!({"a": tensor(&shape, 0, 4)}), &[0; 4]);
        assert!(message.contains("a size that fits in memory"), "{message}");
    }
    for shape in [json!([-1]), json!([1.5]), json!(["1"]), json!(7)] {
        let message = case.header(&json!({"a": tensor(&shape, 0, 4)}), &[0; 4]);
        assert!(message.contains("tensor `a`"), "{message}");
    }
    let vast = (1_u64 << 61) - 1;
    let far: serde_json::Map<String, Value> = (0..8)
        .map(|i| {
            let offsets = [vast * i, vast * (i + 1)];
            (format!("t{i}"), json!({"dtype": "U8", "shape": [vast], "data_offsets": offsets}))
        })
        .collect();
    assert!(case.header(&Value::Object(far), &[0; 4]).contains("inside the file"));
    let odd = json!({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}});
    assert!(case.header(&odd, &[0; 1]).contains("a size that fits"));
    let unknown = json!({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}});
    assert!(case.header(&unknown, &[0; 4]).contains("F99"));
}

#[test]
fn other_formats_are_called_by_their_names() {
    let case = Case::new();
    assert!(case.message(b"version https://git-lfs.github.com/spec/v1\n").contains("Git LFS"));
    assert!(case.message(b"PK\x03\x04............").contains("PyTorch"));
    assert!(case.message(b"GGUF............").contains("GGUF"));
    let missing = Checkpoint::open(&File::Disk(case.folder.path().join("none")));
    assert!(matches!(missing, Err(Error::Read { .. })));
}

proptest! {
    /// Whatever is accepted here the reference parser accepts too, with the same tensors.
    #[test]
    fn nothing_is_accepted_that_the_reference_refuses(at in 0..400_usize, byte: u8) {
        let mut bytes = sound().bytes();
        let length = bytes.len();
        bytes[at % length] = byte;
        if let Ok(checkpoint) = Case::new().open(&bytes) {
            let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let mut names = reference.names();
            names.sort_unstable();
            prop_assert!(checkpoint.names().eq(names));
        }
    }

    /// A real file with a few changed bytes in its header loads or is refused, but never panics.
    #[test]
    fn a_damaged_network_never_panics(
        changes in proptest::collection::vec((0..20_000_usize, any::<u8>()), 1..4),
    ) {
        let path = goldens().join("single_files/transformer_fp8_scale_weight.safetensors");
        let mut bytes = files::map(&path).unwrap().to_vec();
        let length = 8 + usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        for (at, byte) in changes {
            bytes[8 + at % (length - 8)] = byte;
        }
        if let Ok(checkpoint) = Case::new().open(&bytes)
            && let Ok(mut reader) = Reader::new(&checkpoint, Component::Transformer)
        {
            drop(FluxConfig::infer(&reader));
            let config = FluxConfig {
                in_channels: 64,
                out_channels: None,
                num_layers: 1,
                num_single_layers: 1,
                attention_head_dim: 16,
                num_attention_heads: 1,
                joint_attention_dim: 48,
                pooled_projection_dim: 64,
                guidance_embeds: true,
                axes_dims_rope: [4, 6, 6],
            };
            drop(FluxWeights::load(&mut reader, &config.into(), WeightDtype::Bf16));
        }
    }

    /// Garbage never panics.
    #[test]
    fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        prop_assert!(Case::new().open(&bytes).is_err());
    }
}

#[test]
fn long_texts_are_not_quoted_whole() {
    let dtype = "F".repeat(1 << 20);
    let header = json!({ "a": { "dtype": dtype, "shape": [1], "data_offsets": [0, 4] } });
    let message = Case::new().header(&header, &[0; 4]);
    assert!(message.contains("found FFFF") && message.len() < 1_000, "{} bytes", message.len());
    let header = json!({ "a": "x".repeat(1 << 20) });
    let message = Case::new().header(&header, &[]);
    assert!(message.contains("not valid") && message.len() < 1_000, "{} bytes", message.len());
}
