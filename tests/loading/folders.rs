//! Diffusers folders: fused order, sharding, and every kind of wrong tensor.

use std::path::Path;
use std::path::PathBuf;

use flux_rt::Error;
use flux_rt::files;
use flux_rt::model::plan::BlockSizes;
use flux_rt::model::plan::DoublePlan;
use flux_rt::model::plan::SinglePlan;
use flux_rt::model::source::ModelFiles;
use flux_rt::model::source::ModelSource;
use flux_rt::model::weights::checkpoint::Checkpoint;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;
use flux_rt::ops::gemm::Linear;
use flux_rt::ops::gemm::Weight;
use tempfile::TempDir;

use crate::goldens;
use crate::writer;
use crate::writer::Writer;

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model";

fn resolve(folder: &Path) -> ModelFiles {
    ModelSource::new(folder.to_str().unwrap()).resolve().unwrap()
}

fn copied(model: &str) -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let folder = writer::copy(&goldens().join(model), &temp.path().join(model));
    (temp, folder)
}

fn values(weight: &Weight) -> Vec<f32> {
    match weight {
        Weight::F32(tensor) => tensor.host().to_vec(),
        Weight::Bf16(tensor) => tensor.host().iter().map(|value| value.to_f32()).collect(),
        Weight::Fp8(_) | Weight::Part(_) => unreachable!("nothing here is quantised or narrowed"),
    }
}

/// A fused layer's numbers, against those of the stored layers one after the other.
fn assert_fused(reader: &mut Reader<'_>, layer: &Linear, names: &[&str]) {
    let mut joined = |leaf: &str| -> Vec<f32> {
        let tensors = names.iter().map(|name| reader.to_f32(&format!("{name}.{leaf}")).unwrap());
        tensors.collect::<Vec<_>>().concat()
    };
    assert_eq!(values(&layer.weight), joined("weight"), "{names:?}");
    if let Some(bias) = &layer.bias {
        assert_eq!(bias.host(), joined("bias"), "{names:?}");
    }
}

#[test]
fn whole_pipelines_load_in_both_forms() {
    for model in ["dev", "schnell"] {
        let files = resolve(&goldens().join(model));
        for dtype in [WeightDtype::F32, WeightDtype::Bf16] {
            let flux = files.load_flux(dtype).unwrap();
            assert_eq!(flux.guidance.is_some(), model == "dev");
            assert_eq!(flux.config, files.flux_config().unwrap());
            assert_eq!(flux.double.len(), flux.config.num_layers);
            files.load_vae(dtype).unwrap();
            files.load_clip(dtype).unwrap();
            files.load_t5(dtype).unwrap();
        }
        assert_eq!(files.scheduler_config().unwrap().use_dynamic_shifting, model == "dev");
        assert!(files.tokenizers().is_ok());
    }
}

#[test]
fn the_transformer_is_fused_in_the_documented_order() {
    let files = resolve(&goldens().join("dev"));
    let flux = files.load_flux(WeightDtype::Bf16).unwrap();
    let checkpoint = files.transformer.open().unwrap();
    let reader = &mut Reader::new(&checkpoint, Component::Transformer).unwrap();
    let d = flux.config.hidden_size();

    let full = BlockSizes::full(&flux.config);
    let (whole, single_plan) = (DoublePlan::default(), SinglePlan::default());
    let block = "transformer_blocks.1.attn";
    let names = ["to_q", "to_k", "to_v"].map(|name| format!("{block}.{name}"));
    assert_fused(
        reader,
        flux.double[1].img.qkv.at(whole.qkv_form(full)).unwrap(),
        &names.each_ref().map(String::as_str),
    );
    let names = ["add_q_proj", "add_k_proj", "add_v_proj"].map(|name| format!("{block}.{name}"));
    assert_fused(
        reader,
        flux.double[1].txt.qkv.at(whole.qkv_form(full)).unwrap(),
        &names.each_ref().map(String::as_str),
    );
    let single = "single_transformer_blocks.1";
    let names =
        ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"].map(|name| format!("{single}.{name}"));
    assert_fused(
        reader,
        flux.single[1].linear1.at(single_plan.linear1_form(full)).unwrap(),
        &names.each_ref().map(String::as_str),
    );
    assert_fused(
        reader,
        flux.single[1].linear2.at(single_plan.linear2_form(full)).unwrap(),
        &[&format!("{single}.proj_out")],
    );

    let rows = (2 * 6 * 2 + 3 * 2 + 2) * d;
    let layers: Vec<_> = flux.modulation.iter().map(|layer| layer.resident().unwrap()).collect();
    let bias = layers.iter().flat_map(|layer| layer.bias.as_ref().unwrap().host());
    let bias: Vec<f32> = bias.copied().collect();
    assert_eq!(bias.len(), rows);
    let txt = reader.to_f32("transformer_blocks.0.norm1_context.linear.bias").unwrap();
    assert_eq!(bias[6 * d..12 * d], txt);
    let last = reader.to_f32("single_transformer_blocks.1.norm.linear.bias").unwrap();
    assert_eq!(bias[rows - 5 * d..rows - 2 * d], last);
    // Diffusers stores (scale, shift), the stack ends with (shift, scale).
    let norm_out = reader.to_f32("norm_out.linear.bias").unwrap();
    assert_eq!(bias[rows - 2 * d..], [&norm_out[d..], &norm_out[..d]].concat());
    let norm_out = reader.to_f32("norm_out.linear.weight").unwrap();
    let stack = values(&layers.last().unwrap().weight);
    assert_eq!(stack, [&norm_out[d * d..], &norm_out[..d * d]].concat());
}

#[test]
fn the_encoders_are_fused_in_the_documented_order() {
    let files = resolve(&goldens().join("dev"));
    let (clip, t5) =
        (files.load_clip(WeightDtype::F32).unwrap(), files.load_t5(WeightDtype::F32).unwrap());
    let checkpoint = files.text_encoder.open().unwrap();
    let reader = &mut Reader::new(&checkpoint, Component::TextEncoder).unwrap();
    let layer = "encoder.layers.2.self_attn";
    let names = ["q_proj", "k_proj", "v_proj"].map(|name| format!("{layer}.{name}"));
    assert_fused(reader, &clip.layers[2].qkv, &names.each_ref().map(String::as_str));
    let checkpoint = files.text_encoder_2.open().unwrap();
    let reader = &mut Reader::new(&checkpoint, Component::TextEncoder2).unwrap();
    let names = ["q", "k", "v"].map(|name| format!("encoder.block.1.layer.0.SelfAttention.{name}"));
    let block = t5.blocks[1].resident().unwrap();
    assert_fused(reader, &block.qkv, &names.each_ref().map(String::as_str));
    let names =
        ["wi_0", "wi_1"].map(|name| format!("encoder.block.1.layer.1.DenseReluDense.{name}"));
    assert_fused(reader, &block.mlp_up, &names.each_ref().map(String::as_str));
    assert_eq!(t5.relative_attention_bias.shape(), [32, 3]);
}

#[test]
fn convolutions_become_channels_last() {
    let files = resolve(&goldens().join("dev"));
    let vae = files.load_vae(WeightDtype::F32).unwrap();
    let checkpoint = files.vae.open().unwrap();
    let mut reader = Reader::new(&checkpoint, Component::Vae).unwrap();
    let stored = reader.to_f32("decoder.conv_in.weight").unwrap();
    let conv = &vae.decoder.conv_in;
    let Weight::F32(weight) = &conv.weight else { unreachable!("loaded as f32") };
    assert_eq!((weight.shape(), conv.kernel), ([16, 3 * 3 * 16], 3));
    let [out_channels, height, width, in_channels] = [16, 3, 3, 16];
    for o in 0..out_channels {
        for y in 0..height {
            for x in 0..width {
                for i in 0..in_channels {
                    let ours = weight.host()[((o * height + y) * width + x) * in_channels + i];
                    let theirs = stored[((o * in_channels + i) * height + y) * width + x];
                    assert_eq!(ours.to_bits(), theirs.to_bits());
                }
            }
        }
    }
    let stored = reader.to_f32("decoder.up_blocks.0.resnets.1.conv2.bias").unwrap();
    assert_eq!(vae.decoder.levels[0].resnets[1].conv2.bias.host(), stored);
    assert!(vae.decoder.levels[2].resnets[0].shortcut.is_some());
    assert!(vae.decoder.levels[3].resample.is_none() && vae.encoder.levels[0].resample.is_some());
}

/// Loads schnell's transformer after `change`, which must make it fail.
fn refused(change: impl FnOnce(Writer) -> Writer) -> Error {
    let (_temp, folder) = copied("schnell");
    let path = folder.join(format!("{TRANSFORMER}.safetensors"));
    change(Writer::read(&path)).write(&path);
    resolve(&folder).load_flux(WeightDtype::Bf16).unwrap_err()
}

#[test]
fn wrong_tensors_are_refused_by_name() {
    let message = refused(|writer| writer.without("x_embedder.bias")).to_string();
    assert!(message.contains("`x_embedder.bias`: expected a tensor of shape [128]"), "{message}");
    let message = refused(|mut writer| {
        for (name, _) in &mut writer.tensors {
            *name = name.replace("x_embedder.weight", "x_embeder.weight");
        }
        writer
    });
    let message = message.to_string();
    assert!(message.contains("the closest name is `x_embeder.weight`"), "{message}");
    let message = refused(|mut writer| {
        writer.f32("extra", &[2], &[0.0; 2]);
        writer.f32("more.extra", &[2], &[0.0; 2]);
        writer
    });
    let message = message.to_string();
    assert!(message.contains("`extra`") && message.contains("and 1 more"), "{message}");
    let message = refused(|mut writer| {
        writer.get("proj_out.bias").shape = vec![8, 8];
        writer
    });
    let message = message.to_string();
    assert!(message.contains("expected shape [64], found [8, 8]"), "{message}");
    let message = refused(|mut writer| {
        let tensor = writer.get("proj_out.bias");
        (tensor.dtype, tensor.bytes) = ("I64", vec![0; 64 * 8]);
        writer
    });
    let message = message.to_string();
    assert!(
        message.contains("expected dtype F32, F16, BF16") && message.contains("I64"),
        "{message}"
    );
}

#[test]
fn shards_must_match_their_index() {
    let index_of = |folder: &Path| {
        let path = folder.join(format!("{TRANSFORMER}.safetensors.index.json"));
        (files::read_text(&path).unwrap(), path)
    };
    let refused = |change: &dyn Fn(&str) -> String| {
        let (_temp, folder) = copied("dev");
        let (text, path) = index_of(&folder);
        let changed = change(&text);
        assert_ne!(changed, text);
        files::write_atomic(&path, changed.as_bytes()).unwrap();
        resolve(&folder).load_flux(WeightDtype::Bf16).unwrap_err().to_string()
    };
    let missing = refused(&|text| text.replace("00003-of-00003", "00004-of-00003"));
    assert!(missing.contains("00004-of-00003.safetensors beside the index"), "{missing}");
    let moved = refused(&|text| text.replacen("00001-of-00003", "00002-of-00003", 1));
    assert!(moved.contains("00002-of-00003.safetensors as the index says"), "{moved}");
    assert!(moved.contains("found in diffusion_pytorch_model-00001-of-00003"), "{moved}");
    let unknown = refused(&|text| text.replacen("x_embedder.bias", "y_embedder.bias", 1));
    assert!(unknown.contains("`y_embedder.bias`") && unknown.contains("in no shard"), "{unknown}");
    let unlisted = refused(&|text| {
        let line = text.lines().find(|line| line.contains("x_embedder.bias")).unwrap();
        text.replace(&format!("{line}\n"), "").replace(",\n  }", "\n  }")
    });
    assert!(
        unlisted.contains("`x_embedder.bias`") && unlisted.contains("a line in the index"),
        "{unlisted}"
    );
    let outside =
        refused(&|text| text.replacen("\"diffusion_pytorch", "\"../diffusion_pytorch", 1));
    assert!(outside.contains("expected shards that are safetensors files beside it"), "{outside}");
    let twice = refused(&|text| {
        let line = text.lines().find(|line| line.contains("x_embedder.bias")).unwrap();
        text.replace(line, &format!("{},\n{line}", line.trim_end_matches(',')))
    });
    assert!(twice.contains("`x_embedder.bias` twice"), "{twice}");
    let broken = refused(&|text| text.replace('{', "["));
    assert!(broken.contains("not a valid index"), "{broken}");
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let (_temp, folder) = copied("dev");
    let path = folder.join(format!("{TRANSFORMER}-00003-of-00003.safetensors"));
    let first = Writer::read(&folder.join(format!("{TRANSFORMER}-00001-of-00003.safetensors")));
    let mut last = Writer::read(&path);
    last.tensors.push(first.tensors[0].clone());
    last.write(&path);
    let message = resolve(&folder).load_flux(WeightDtype::Bf16).unwrap_err().to_string();
    assert!(
        message.contains(&first.tensors[0].0) && message.contains("a second one in"),
        "{message}"
    );
}

#[test]
fn variants_are_found_and_the_plain_name_comes_first() {
    let (_temp, folder) = copied("schnell");
    let plain = folder.join(format!("{TRANSFORMER}.safetensors"));
    for variant in ["bf16", "fp16"] {
        let renamed = folder.join(format!("{TRANSFORMER}.{variant}.safetensors"));
        std::fs::rename(&plain, &renamed).unwrap();
        let files = resolve(&folder);
        assert_eq!(files.transformer.files().unwrap()[0].path(), renamed);
        files.load_flux(WeightDtype::Bf16).unwrap();
        std::fs::copy(&renamed, &plain).unwrap();
        assert_eq!(files.transformer.files().unwrap()[0].path(), plain);
        std::fs::remove_file(&renamed).unwrap();
    }
    std::fs::rename(&plain, folder.join("transformer/other.safetensors")).unwrap();
    let message = resolve(&folder).load_flux(WeightDtype::Bf16).unwrap_err().to_string();
    assert!(message.contains("expected diffusion_pytorch_model.safetensors"), "{message}");
    assert!(message.contains("other.safetensors"), "{message}");
}

#[test]
fn sharded_variants_are_found_in_both_spellings() {
    let spellings = ["safetensors.index.fp16.json", "fp16.safetensors.index.json"];
    for spelling in spellings {
        let (_temp, folder) = copied("dev");
        let index = folder.join(format!("{TRANSFORMER}.safetensors.index.json"));
        std::fs::rename(&index, folder.join(format!("{TRANSFORMER}.{spelling}"))).unwrap();
        resolve(&folder).load_flux(WeightDtype::Bf16).unwrap();
    }
}

#[test]
fn a_shard_cut_short_is_refused() {
    let (_temp, folder) = copied("dev");
    let path = folder.join(format!("{TRANSFORMER}-00002-of-00003.safetensors"));
    let bytes = files::map(&path).unwrap().to_vec();
    for keep in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        files::write_atomic(&path, &bytes[..keep]).unwrap();
        let message = resolve(&folder).load_flux(WeightDtype::Bf16).unwrap_err().to_string();
        assert!(
            message.contains("00002-of-00003") && message.contains(&format!("found {keep}")),
            "{message}"
        );
    }
}

#[test]
fn the_same_t5_loads_with_either_name_of_its_embedding() {
    let (_temp, folder) = copied("schnell");
    let path = folder.join("text_encoder_2/model.safetensors");
    let original = Writer::read(&path);
    let expected = values(&resolve(&folder).load_t5(WeightDtype::F32).unwrap().token_embedding);
    let mut renamed = original.clone();
    for (name, _) in &mut renamed.tensors {
        *name = name.replace("shared.weight", "encoder.embed_tokens.weight");
    }
    let mut both = renamed.clone();
    both.tensors
        .extend(original.tensors.iter().filter(|(name, _)| name == "shared.weight").cloned());
    for writer in [&renamed, &both] {
        writer.write(&path);
        let loaded = resolve(&folder).load_t5(WeightDtype::F32).unwrap();
        assert_eq!(values(&loaded.token_embedding), expected);
    }
    both.get("encoder.embed_tokens.weight").shape.reverse();
    both.write(&path);
    let message = resolve(&folder).load_t5(WeightDtype::F32).unwrap_err().to_string();
    assert!(message.contains("as in `shared.weight`"), "{message}");
}

#[test]
fn opening_an_empty_folder_says_what_was_expected() {
    let temp = tempfile::tempdir().unwrap();
    let error = Checkpoint::open_folder(&files::Folder::Disk(temp.path().into())).unwrap_err();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
}
