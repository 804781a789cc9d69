//! CLIP and T5 against transformers.

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::files::File;
use flux_rt::model::clip;
use flux_rt::model::config::ClipConfig;
use flux_rt::model::config::T5Config;
use flux_rt::model::t5;
use flux_rt::model::weights::clip::ClipWeights;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;
use flux_rt::model::weights::t5::T5Weights;

use crate::Expected;
use crate::FOLDERS;
use crate::checkpoint;
use crate::common::F32;
use crate::common::assert_close;
use crate::golden;

fn ids(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(|value| value as u32).collect()
}

fn load_clip(pipeline: &str) -> ClipWeights {
    let config = File::Disk(golden::path(&format!("{pipeline}/text_encoder/config.json")));
    let config = ClipConfig::read(&config).unwrap();
    let checkpoint = checkpoint(pipeline, "text_encoder");
    let mut reader = Reader::new(&checkpoint, Component::TextEncoder).unwrap();
    ClipWeights::load(&mut reader, &config, WeightDtype::F32).unwrap()
}

fn load_t5(pipeline: &str) -> T5Weights {
    let config = File::Disk(golden::path(&format!("{pipeline}/text_encoder_2/config.json")));
    let config = T5Config::read(&config).unwrap();
    let checkpoint = checkpoint(pipeline, "text_encoder_2");
    let mut reader = Reader::new(&checkpoint, Component::TextEncoder2).unwrap();
    T5Weights::load(&mut reader, &config, WeightDtype::F32).unwrap()
}

#[test]
fn clip_layer_by_layer() {
    for pipeline in FOLDERS {
        let expected = Expected::of(pipeline);
        let weights = load_clip(pipeline);
        let width = weights.config.hidden_size;
        for (index, layer) in weights.layers.iter().enumerate() {
            let input = match index {
                0 => "clip.embeddings".to_owned(),
                _ => format!("clip.layer.{}", index - 1),
            };
            let input: Tensor<Act, 2> = expected.matrix(&input, width);
            let output = clip::forward_layer(&weights.config, layer, &input).unwrap();
            let name = format!("clip.layer.{index}");
            let what = format!("{pipeline} {name}");
            assert_close(&what, output.host(), &expected.values(&name), F32);
        }
    }
}

#[test]
fn clip_pools_every_prompt() {
    for pipeline in FOLDERS {
        let expected = Expected::of(pipeline);
        let weights = load_clip(pipeline);
        let all = ids(expected.values("clip.prompts.ids"));
        let pooled = expected.values("clip.prompts.pooled");
        let width = weights.config.hidden_size;
        assert!(all.len() / 77 > 10, "{pipeline}");
        for (index, ids) in all.chunks_exact(77).enumerate() {
            let actual = clip::encode(&Device::Cpu, &weights, ids).unwrap();
            let what = format!("{pipeline} prompt {index}");
            assert_close(&what, actual.host(), &pooled[index * width..][..width], F32);
        }
    }
}

#[test]
fn t5_block_by_block_and_whole() {
    for pipeline in FOLDERS {
        let expected = Expected::of(pipeline);
        let weights = load_t5(pipeline);
        let config = &weights.config;
        let short = ids(expected.values("t5.short.ids"));
        let bias = t5::relative_bias(config, &weights.relative_attention_bias, short.len());
        for (index, block) in weights.blocks.iter().enumerate() {
            let input = match index {
                0 => "t5.short.embeddings".to_owned(),
                _ => format!("t5.short.block.{}", index - 1),
            };
            let input: Tensor<Act, 2> = expected.matrix(&input, config.d_model);
            let block = block.resident().unwrap();
            let output = t5::forward_block(config, block, &input, &bias).unwrap();
            let name = format!("t5.short.block.{index}");
            let what = format!("{pipeline} {name}");
            assert_close(&what, output.host(), &expected.values(&name), F32);
        }
        for length in ["short", "long"] {
            let name = format!("t5.{length}.output");
            if !expected.has(&name) {
                assert_eq!((pipeline, length), ("schnell", "long"));
                continue;
            }
            let ids = ids(expected.values(&format!("t5.{length}.ids")));
            let output = t5::encode(&Device::Cpu, &weights, &ids).unwrap();
            let what = format!("{pipeline} {name}");
            assert_close(&what, output.host(), &expected.values(&name), F32);
        }
    }
}

#[test]
fn t5_position_bias_in_every_bucket() {
    for pipeline in FOLDERS {
        let expected = Expected::of(pipeline).values("t5.position_bias");
        let weights = load_t5(pipeline);
        let bias = t5::relative_bias(&weights.config, &weights.relative_attention_bias, 200);
        assert_eq!(bias.host(), expected, "{pipeline}");
    }
}

#[test]
fn states_of_a_whole_run() {
    for pipeline in FOLDERS {
        let expected = Expected::of(pipeline);
        let pooled = clip::encode(
            &Device::Cpu,
            &load_clip(pipeline),
            &ids(expected.values("pipeline.clip_ids")),
        );
        let golden = expected.values("pipeline.pooled");
        assert_close(&format!("{pipeline} pooled"), pooled.unwrap().host(), &golden, F32);
        let ids = ids(expected.values("pipeline.t5_ids"));
        let states = t5::encode(&Device::Cpu, &load_t5(pipeline), &ids).unwrap();
        let golden = expected.values("pipeline.prompt_embeds");
        assert_close(&format!("{pipeline} prompt_embeds"), states.host(), &golden, F32);
    }
}
