//! fp8 weights with and without scales, by hand-worked numbers, and every scale that is refused.

use flux_rt::Error;
use flux_rt::Result;
use flux_rt::model::config::T5Config;
use flux_rt::model::weights::checkpoint::Checkpoint;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;
use flux_rt::model::weights::t5::T5Weights;
use flux_rt::ops::gemm::Weight;
use serde_json::json;

use crate::goldens;
use crate::writer::Writer;

/// 1, -1.75, 448, the smallest subnormal 2^-9.
const E4M3: [u8; 4] = [0x38, 0xbe, 0x7e, 0x01];
/// 1, -1.75, 57344, the smallest subnormal 2^-16.
const E5M2: [u8; 4] = [0x3c, 0xbf, 0x7b, 0x01];
const LAYER: &str = "single_blocks.0.linear2";

/// Reads the tensor `x_embedder.weight`, stored as `img_in.weight` next to what `with` adds.
fn read(dtype: &'static str, values: &[u8], with: impl Fn(&mut Writer)) -> Result<Vec<f32>> {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = Writer::default();
    writer.add("img_in.weight", dtype, &[2, 2], values);
    with(&mut writer);
    let checkpoint = Checkpoint::open(&writer.write(&temp.path().join("x.safetensors")))?;
    Reader::new(&checkpoint, Component::Transformer)?.to_f32("x_embedder.weight")
}

fn scalar(name: &'static str, value: f32) -> impl Fn(&mut Writer) {
    move |writer| writer.f32(name, &[], &[value])
}

/// The error of a tensor: its name, expected and actual in one text.
fn refused(with: impl Fn(&mut Writer)) -> String {
    match read("F8_E4M3", &E4M3, with).unwrap_err() {
        Error::Weight { tensor, expected, actual, .. } => format!("{tensor}: {expected}: {actual}"),
        other => other.to_string(),
    }
}

#[test]
fn plain_values_are_exact() {
    assert_eq!(read("F8_E4M3", &E4M3, |_| {}).unwrap(), [1.0, -1.75, 448.0, 1.0 / 512.0]);
    assert_eq!(read("F8_E5M2", &E5M2, |_| {}).unwrap(), [1.0, -1.75, 57344.0, 1.0 / 65536.0]);
    let special = read("F8_E4M3", &[0x7f, 0xff, 0x80, 0x08], |_| {}).unwrap();
    assert!(special[0].is_nan() && special[1].is_nan());
    assert_eq!((special[2].to_bits(), special[3]), (0x8000_0000, 1.0 / 64.0));
    let special = read("F8_E5M2", &[0x7c, 0xfc, 0x7d, 0x04], |_| {}).unwrap();
    assert!(special[2].is_nan());
    assert_eq!(
        (special[0], special[1], special[3]),
        (f32::INFINITY, f32::NEG_INFINITY, 1.0 / 16384.0)
    );
}

#[test]
fn both_spellings_of_a_scale_multiply() {
    for name in ["img_in.scale_weight", "img_in.weight_scale"] {
        let values = read("F8_E4M3", &E4M3, scalar(name, 0.75)).unwrap();
        assert_eq!(values, [0.75, -1.3125, 336.0, 0.75 / 512.0], "{name}");
    }
    let values = read("F8_E5M2", &E5M2, |writer| {
        writer.f32("img_in.weight_scale", &[1], &[0.5]);
        writer.f32("img_in.input_scale", &[], &[9.0]);
        writer.add("scaled_fp8", "F8_E5M2", &[2], &[0, 0]);
        writer.add("img_in.comfy_quant", "U8", &[25], br#"{"format": "float8_e5m2"}"#);
        writer.metadata = Some(json!({"_quantization_metadata":
            r#"{"layers": {"img_in": {"format": "float8_e5m2"}}}"#}));
    });
    assert_eq!(values.unwrap(), [0.5, -0.875, 28672.0, 0.5 / 65536.0]);
}

#[test]
fn a_scale_that_is_not_understood_is_refused() {
    let message = refused(scalar("img_in.weight_scale_2", 1.0));
    assert!(message.contains("a known kind of scale") && message.contains("weight_scale_2"));
    assert!(refused(scalar("img_in.weight_scale_inv", 1.0)).contains("weight_scale_inv"));
    assert!(refused(scalar("img_in.weight.scale", 1.0)).contains("a known kind of scale"));
    for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(refused(scalar("img_in.scale_weight", value)).contains("one positive number"));
        assert!(refused(scalar("img_in.scale_input", value)).contains("one positive number"));
    }
    let per_row = refused(|writer| writer.f32("img_in.weight_scale", &[2], &[1.0, 1.0]));
    assert!(per_row.contains("one positive number") && per_row.contains("F32 [2]"), "{per_row}");
    let integer = refused(|writer| writer.add("img_in.weight_scale", "U8", &[], &[1]));
    assert!(integer.contains("U8 []"), "{integer}");
    let both = refused(|writer| {
        writer.f32("img_in.scale_weight", &[], &[1.0]);
        writer.f32("img_in.weight_scale", &[], &[2.0]);
    });
    assert!(both.contains("in the other spelling"), "{both}");
    assert!(refused(scalar("txt_in.scale_weight", 2.0)).contains("`txt_in.weight` beside it"));
    let marker = refused(|writer| writer.add("scaled_fp8", "I64", &[0], &[]));
    assert!(marker.contains("scaled_fp8") && marker.contains("I64"), "{marker}");
    let int8 = br#"{"format":"int8_tensorwise"}"#;
    let format = refused(|writer| writer.add("img_in.comfy_quant", "U8", &[int8.len()], int8));
    assert!(format.contains("float8_e4m3fn") && format.contains("int8_tensorwise"), "{format}");
    let metadata = refused(|writer| {
        writer.metadata = Some(json!({"_quantization_metadata":
            r#"{"layers": {"img_in": {"format": "nvfp4"}}}"#}));
    });
    assert!(metadata.contains("layer `img_in`") && metadata.contains("nvfp4"), "{metadata}");
}

#[test]
fn a_scale_beside_a_weight_of_another_dtype_must_be_one() {
    let bf16 = [0x80, 0x3f, 0, 0, 0, 0, 0, 0];
    let values = read("BF16", &bf16, scalar("img_in.scale_weight", 1.0)).unwrap();
    assert_eq!(values, [1.0, 0.0, 0.0, 0.0]);
    let error = read("BF16", &bf16, scalar("img_in.scale_weight", 2.0)).unwrap_err().to_string();
    assert!(error.contains("an fp8 weight, since it has a scale"), "{error}");
}

#[test]
fn split_rows_take_the_scale_of_the_whole() {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = Writer::default();
    writer.add("img_in.weight", "F8_E4M3", &[1, 1], &[0x38]);
    writer.add("double_blocks.0.img_attn.qkv.weight", "F8_E4M3", &[3, 1], &[0x38, 0x40, 0x48]);
    writer.f32("double_blocks.0.img_attn.qkv.scale_weight", &[], &[0.5]);
    writer.add(&format!("{LAYER}.weight"), "F8_E4M3", &[1, 1], &[0x38]);
    let checkpoint = Checkpoint::open(&writer.write(&temp.path().join("x.safetensors"))).unwrap();
    let mut reader = Reader::new(&checkpoint, Component::Transformer).unwrap();
    for (name, expected) in [("to_q", 0.5), ("to_k", 1.0), ("to_v", 2.0)] {
        let name = format!("transformer_blocks.0.attn.{name}.weight");
        assert_eq!(reader.to_f32(&name).unwrap(), [expected], "{name}");
    }
    assert_eq!(reader.to_f32("single_transformer_blocks.0.proj_out.weight").unwrap(), [1.0]);
}

#[test]
fn fp8_matrices_round_once_to_bf16() {
    let path = goldens().join("single_files/t5xxl_fp8_scaled.safetensors");
    let checkpoint = Checkpoint::open(&flux_rt::files::File::Disk(path)).unwrap();
    let load = |dtype| {
        let mut reader = Reader::new(&checkpoint, Component::TextEncoder2).unwrap();
        let config = T5Config::infer(&reader).unwrap();
        T5Weights::load(&mut reader, &config, dtype).unwrap()
    };
    let (exact, rounded) = (load(WeightDtype::F32), load(WeightDtype::Bf16));
    for (exact, rounded) in exact.blocks.iter().zip(&rounded.blocks) {
        let (Weight::F32(exact), Weight::Bf16(rounded)) =
            (&exact.resident().unwrap().mlp_up.weight, &rounded.resident().unwrap().mlp_up.weight)
        else {
            panic!("each weight is kept as it was asked for");
        };
        for (exact, rounded) in exact.host().iter().zip(rounded.host()) {
            assert_eq!(half::bf16::from_f32(*exact), *rounded);
        }
    }
}
