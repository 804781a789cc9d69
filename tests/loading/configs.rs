//! Config files with a field that is missing, absurd or not supported: refused with file, field,
//! what was expected and what was found.

use std::path::Path;

use flux_rt::Error;
use flux_rt::Result;
use flux_rt::files;
use flux_rt::files::File;
use flux_rt::model::config::ClipConfig;
use flux_rt::model::config::FluxConfig;
use flux_rt::model::config::SchedulerConfig;
use flux_rt::model::config::T5Config;
use flux_rt::model::config::VaeConfig;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use crate::goldens;
use crate::writer;

const FILES: [&str; 5] = [
    "transformer/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "text_encoder_2/config.json",
    "scheduler/scheduler_config.json",
];

fn golden(file: &str) -> Value {
    let text = files::read_text(&goldens().join("dev").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Reads a config of the kind that `file` is in the golden folder.
fn read(file: &str, content: &[u8]) -> Result<String> {
    let temp = tempfile::tempdir().unwrap();
    let written = writer::write(&temp.path().join(Path::new(file).file_name().unwrap()), content);
    read_file(file, &written)
}

fn read_file(kind: &str, file: &File) -> Result<String> {
    match kind {
        "transformer/config.json" => FluxConfig::read(file).map(|config| format!("{config:?}")),
        "vae/config.json" => VaeConfig::read(file).map(|config| format!("{config:?}")),
        "text_encoder/config.json" => ClipConfig::read(file).map(|config| format!("{config:?}")),
        "text_encoder_2/config.json" => T5Config::read(file).map(|config| format!("{config:?}")),
        _ => SchedulerConfig::read(file).map(|config| format!("{config:?}")),
    }
}

/// `field` with this value must be refused.
fn refused(file: &str, field: &str, value: Value) {
    let mut config = golden(file);
    let shown = format!("{file}: {field} = {value}");
    config[field] = value;
    match read(file, config.to_string().as_bytes()) {
        Err(Error::Config { field: found, .. }) => assert_eq!(found, field, "{shown}"),
        other => panic!("{shown}: {other:?}"),
    }
}

#[test]
fn the_golden_configs_are_accepted() {
    for model in ["dev", "schnell"] {
        for file in FILES {
            read_file(file, &File::Disk(goldens().join(model).join(file))).unwrap();
        }
    }
}

#[test]
fn every_size_must_be_there_and_be_sane() {
    let sizes: [(&str, &[&str]); 4] = [
        (
            FILES[0],
            &[
                "in_channels",
                "num_layers",
                "num_single_layers",
                "attention_head_dim",
                "num_attention_heads",
                "joint_attention_dim",
                "pooled_projection_dim",
            ],
        ),
        (FILES[1], &["latent_channels", "layers_per_block", "norm_num_groups", "sample_size"]),
        (
            FILES[2],
            &[
                "vocab_size",
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "max_position_embeddings",
            ],
        ),
        (
            FILES[3],
            &[
                "vocab_size",
                "d_model",
                "d_kv",
                "num_heads",
                "d_ff",
                "num_layers",
                "relative_attention_num_buckets",
            ],
        ),
    ];
    for (file, fields) in sizes {
        for field in fields {
            for value in [json!(null), json!(0), json!(-1), json!(1.5), json!("8"), json!(u64::MAX)]
            {
                refused(file, field, value);
            }
        }
    }
}

#[test]
fn what_is_not_supported_is_refused() {
    let cases = [
        (FILES[0], "_class_name", json!("SD3Transformer2DModel")),
        (FILES[0], "patch_size", json!(2)),
        (FILES[0], "quantization_config", json!({"load_in_4bit": true})),
        (FILES[0], "out_channels", json!(0)),
        (FILES[0], "guidance_embeds", json!(null)),
        (FILES[0], "num_attention_heads", json!(60_000)),
        (FILES[0], "axes_dims_rope", json!([8, 28, 30])),
        (FILES[0], "axes_dims_rope", json!([9, 27, 28])),
        (FILES[0], "axes_dims_rope", json!([0, 32, 32])),
        (FILES[0], "axes_dims_rope", json!([32, 32])),
        (FILES[0], "axes_dims_rope", json!([u64::MAX, 1, 64])),
        (FILES[0], "axes_dims_rope", json!(null)),
        (FILES[1], "_class_name", json!("AutoencoderTiny")),
        (FILES[1], "use_quant_conv", json!(true)),
        (FILES[1], "use_post_quant_conv", json!(true)),
        (FILES[1], "act_fn", json!("relu")),
        (FILES[1], "in_channels", json!(4)),
        (FILES[1], "latents_mean", json!([0.0])),
        (FILES[1], "shift_factor", json!(null)),
        (FILES[1], "scaling_factor", json!(0.0)),
        // A number above 0 that is none as f32, and one whose inverse is none.
        (FILES[1], "scaling_factor", json!(1e-300)),
        (FILES[1], "scaling_factor", json!(1e-40)),
        (FILES[2], "layer_norm_eps", json!(1e-50)),
        (FILES[3], "layer_norm_epsilon", json!(1e-50)),
        (FILES[1], "shift_factor", json!(1e300)),
        (FILES[1], "block_out_channels", json!([8, 8, 8, 12])),
        (FILES[1], "block_out_channels", json!([])),
        (FILES[1], "block_out_channels", json!([0, 8, 8, 8])),
        (FILES[1], "down_block_types", json!(["AttnDownEncoderBlock2D"])),
        (FILES[1], "up_block_types", json!(["UpDecoderBlock2D"])),
        (FILES[2], "hidden_act", json!("gelu")),
        (FILES[2], "hidden_act", json!(null)),
        (FILES[2], "num_attention_heads", json!(5)),
        (FILES[2], "eos_token_id", json!([2])),
        (FILES[2], "layer_norm_eps", json!(-1.0)),
        (FILES[2], "model_type", json!("bert")),
        (FILES[3], "feed_forward_proj", json!("relu")),
        (FILES[3], "feed_forward_proj", json!(null)),
        (FILES[3], "dense_act_fn", json!("relu")),
        (FILES[3], "num_heads", json!(60_000)),
        (FILES[3], "relative_attention_max_distance", json!(8)),
        (FILES[3], "layer_norm_epsilon", json!(null)),
        (FILES[4], "shift", json!(0.0)),
        (FILES[4], "shift", json!(null)),
        (FILES[4], "use_dynamic_shifting", json!("yes")),
        (FILES[4], "shift_terminal", json!(0.1)),
        (FILES[4], "time_shift_type", json!("linear")),
        (FILES[4], "invert_sigmas", json!(true)),
        (FILES[4], "stochastic_sampling", json!(true)),
        (FILES[4], "use_karras_sigmas", json!(true)),
        (FILES[4], "use_exponential_sigmas", json!(true)),
        (FILES[4], "use_beta_sigmas", json!(true)),
        (FILES[4], "max_image_seq_len", json!(256)),
        (FILES[4], "num_train_timesteps", json!(0)),
        (FILES[4], "_class_name", json!("DDIMScheduler")),
    ];
    for (file, field, value) in cases {
        refused(file, field, value);
    }
}

#[test]
fn messages_name_file_field_expected_and_found() {
    let mut config = golden(FILES[0]);
    config["patch_size"] = json!(2);
    let message = read(FILES[0], config.to_string().as_bytes()).unwrap_err().to_string();
    assert!(message.ends_with("config.json: field `patch_size`: expected 1, found 2"), "{message}");
    for (content, found) in [("", "EOF"), ("[]", "expected a JSON object"), ("{", "EOF")] {
        let error = read(FILES[0], content.as_bytes()).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains(found), "{error}");
    }
    assert!(matches!(read(FILES[0], b"\xff"), Err(Error::Read { .. })));
}

#[test]
fn absent_fields_have_the_older_defaults() {
    let mut config = golden(FILES[0]);
    let object = config.as_object_mut().unwrap();
    object.remove("axes_dims_rope");
    object.remove("out_channels");
    object.insert("attention_head_dim".into(), json!(128));
    let config = read(FILES[0], config.to_string().as_bytes()).unwrap();
    assert!(config.contains("axes_dims_rope: [16, 56, 56]"), "{config}");
    assert!(config.contains("out_channels: None"), "{config}");
    let minimal = br#"{"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": false}"#;
    let scheduler = read(FILES[4], minimal).unwrap();
    assert_eq!(scheduler, format!("{:?}", SchedulerConfig::flux(false)));
}

proptest! {
    /// A config with one byte changed is read or refused, never a panic.
    #[test]
    fn a_damaged_config_never_panics(kind in 0..5_usize, at in 0..2000_usize, byte: u8) {
        let mut text = golden(FILES[kind]).to_string().into_bytes();
        let length = text.len();
        text[at % length] = byte;
        drop(read(FILES[kind], &text));
    }
}

#[test]
fn sizes_that_no_kernel_has_are_refused_by_name() {
    use flux_rt::model::source::ModelConfigs;
    use flux_rt::model::source::ModelSource;
    for model in ["synthetic:flux-dev", "synthetic:flux-schnell"] {
        let files = ModelSource::new(model).resolve().unwrap();
        let configs = files.configs().unwrap();
        files.check_kernel_limits(&configs).unwrap();
        let refused = |change: &dyn Fn(&mut ModelConfigs), parts: [&str; 2]| {
            let mut configs = configs.clone();
            change(&mut configs);
            let error = files.check_kernel_limits(&configs).unwrap_err();
            assert_eq!(error.exit_code(), 3);
            for part in parts {
                assert!(error.to_string().contains(part), "no `{part}` in: {error}");
            }
        };
        refused(&|configs| configs.flux.attention_head_dim = 96, ["attention_head_dim", "128"]);
        refused(&|configs| configs.flux.in_channels = 60, ["in_channels", "multiple of 8"]);
        refused(&|configs| configs.t5.d_ff = 10_241, ["d_ff", "10241"]);
        refused(&|configs| configs.t5.d_kv = 136, ["d_kv", "at most 128"]);
        refused(&|configs| configs.clip.num_attention_heads = 4, ["heads", "192"]);
        let last = |configs: &mut ModelConfigs, channels| {
            *configs.vae.block_out_channels.last_mut().unwrap() = channels;
        };
        refused(&|configs| last(configs, 1032), ["block_out_channels", "1024"]);
        refused(&|configs| last(configs, 768), ["block_out_channels", "512"]);
    }
}
