//! Text encoders in files without config.json, and with more than a text encoder in them.

use flux_rt::Error;
use flux_rt::files::File;
use flux_rt::model::config::ClipConfig;
use flux_rt::model::config::T5Config;
use flux_rt::model::weights::checkpoint::Checkpoint;
use flux_rt::model::weights::clip::ClipWeights;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;

use crate::goldens;
use crate::writer;
use crate::writer::Writer;

const BIAS: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";

/// What `infer` makes of a T5 whose table of position biases has this shape.
fn t5_of_bias(shape: [usize; 2]) -> flux_rt::Result<T5Config> {
    let folder = tempfile::tempdir().unwrap();
    let mut t5 = Writer::read(&goldens().join("dev/text_encoder_2/model.safetensors"));
    let bias = t5.get(BIAS);
    bias.shape = shape.into();
    bias.bytes = vec![0; 2 * shape[0] * shape[1]];
    let file = writer::write(&folder.path().join("t5.safetensors"), &t5.bytes());
    let checkpoint = Checkpoint::open(&file).unwrap();
    T5Config::infer(&Reader::new(&checkpoint, Component::TextEncoder2).unwrap())
}

#[test]
fn sizes_told_from_shapes_are_checked_as_those_of_a_config() {
    assert_eq!(t5_of_bias([32, 3]).unwrap().d_kv, 16);
    for (shape, field, found) in [
        ([1, 3], "relative_attention_num_buckets", "1"),
        ([3, 3], "relative_attention_num_buckets", "3"),
        ([32, 64], "d_kv", "0"),
        ([512, 3], "relative_attention_max_distance", "128"),
    ] {
        match t5_of_bias(shape) {
            Err(Error::Config { path, field: at, actual, .. }) => {
                assert!(path.ends_with("t5.safetensors"), "{path:?}");
                assert_eq!((at.as_str(), actual.as_str()), (field, found), "{shape:?}");
            }
            other => panic!("{shape:?}: {other:?}"),
        }
    }
}

#[test]
fn the_half_of_clip_that_sees_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let golden = goldens().join("dev/text_encoder");
    let config = ClipConfig::read(&File::Disk(golden.join("config.json"))).unwrap();
    let mut clip = Writer::read(&golden.join("model.safetensors"));
    for (name, shape) in [
        ("vision_model.embeddings.class_embedding", [4, 1]),
        ("vision_model.encoder.layers.0.mlp.fc1.weight", [2, 2]),
        ("visual_projection.weight", [2, 2]),
        ("text_projection.weight", [2, 2]),
    ] {
        clip.f32(name, &shape, &[0.0; 4]);
    }
    clip.f32("logit_scale", &[], &[4.6]);
    let load = |clip: &Writer| {
        let file = writer::write(&folder.path().join("model.safetensors"), &clip.bytes());
        let checkpoint = Checkpoint::open(&file).unwrap();
        let mut reader = Reader::new(&checkpoint, Component::TextEncoder).unwrap();
        ClipWeights::load(&mut reader, &config, WeightDtype::F32)
    };
    load(&clip).unwrap();
    clip.f32("video_model.weight", &[1], &[0.0]);
    let error = load(&clip).unwrap_err().to_string();
    assert!(error.contains("video_model.weight"), "{error}");
}
