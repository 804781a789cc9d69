//! What a user may call a model: folders, single files, ids, and what is refused.

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

use flux_rt::files;
use flux_rt::model::config::FluxConfig;
use flux_rt::model::source::ModelFiles;
use flux_rt::model::source::ModelSource;
use flux_rt::model::weights::dtype::WeightDtype;
use tempfile::TempDir;

use crate::bfl;
use crate::goldens;
use crate::writer;
use crate::writer::Writer;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn no_env(_: &str) -> Option<OsString> {
    None
}

fn source(model: &Path) -> ModelSource {
    ModelSource::new(model.to_str().unwrap())
}

/// The two loads give the same numbers everywhere.
fn assert_same<W: std::fmt::Debug>(actual: &W, expected: &W) {
    let (actual, expected) = (format!("{actual:?}"), format!("{expected:?}"));
    assert!(actual == expected, "the loaded weights differ");
}

fn schnell() -> ModelFiles {
    source(&goldens().join("schnell")).resolve_with(&no_env).unwrap()
}

/// schnell's transformer in BFL names.
fn bfl_transformer(model: &str, double: usize, single: usize) -> Writer {
    let files = source(&goldens().join(model)).resolve_with(&no_env).unwrap();
    let mut all = Writer::default();
    for file in files.transformer.files().unwrap() {
        all.tensors.extend(Writer::read(file.path()).tensors);
    }
    bfl::single_file(all, double, single)
}

/// A folder as ComfyUI users have it, and schnell's tokenizers.
fn comfy_folder() -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("models");
    bfl_transformer("schnell", 1, 1).write(&folder.join("flux1-schnell.safetensors"));
    for (name, golden) in
        [("ae", "ae"), ("clip_l", "clip_l"), ("t5xxl_fp8_e4m3fn", "t5xxl_fp8_plain")]
    {
        let golden = goldens().join(format!("single_files/{golden}.safetensors"));
        std::fs::copy(golden, folder.join(format!("{name}.safetensors"))).unwrap();
    }
    (temp, folder)
}

#[test]
fn both_namings_load_to_the_same_weights() {
    for (model, blocks, prefix) in [("dev", 2, ""), ("schnell", 1, "model.diffusion_model.")] {
        // With the golden's config beside it, since shapes do not tell dev's head size.
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("diffusion_pytorch_model.safetensors");
        bfl_transformer(model, blocks, blocks).prefixed(prefix).write(&file);
        let golden = goldens().join(model);
        let config = golden.join("transformer/config.json");
        std::fs::copy(config, temp.path().join("config.json")).unwrap();
        let mut changed = source(&golden);
        let expected = changed.resolve_with(&no_env).unwrap();
        changed.transformer = Some(temp.path().into());
        let changed = changed.resolve_with(&no_env).unwrap();
        let dtype = WeightDtype::Bf16;
        assert_same(&changed.load_flux(dtype).unwrap(), &expected.load_flux(dtype).unwrap());
    }
}

#[test]
fn a_folder_of_single_files_is_a_model() {
    let (_temp, folder) = comfy_folder();
    let mut source = source(&folder);
    // Tiny channels fit no 32 groups: take the VAE's config from the golden.
    source.vae = Some(goldens().join("schnell/vae"));
    let files = source.resolve_with(&no_env).unwrap();
    let expected = schnell();
    let mut config = expected.flux_config().unwrap();
    config.out_channels = Some(config.out_channels());
    assert_eq!(files.flux_config().unwrap(), config);
    assert!(!files.scheduler_config().unwrap().use_dynamic_shifting);
    let (flux, expected_flux) =
        (files.load_flux(WeightDtype::F32).unwrap(), expected.load_flux(WeightDtype::F32).unwrap());
    assert_same(&flux.modulation, &expected_flux.modulation);
    assert_same(&flux.single, &expected_flux.single);
    let clip = files.load_clip(WeightDtype::F32).unwrap();
    assert_same(&clip.layers, &expected.load_clip(WeightDtype::F32).unwrap().layers);
    assert_eq!(files.t5_config().unwrap(), expected.t5_config().unwrap());
    files.load_t5(WeightDtype::Bf16).unwrap();
    let message = files.tokenizers().unwrap_err().to_string();
    assert!(message.contains("--tokenizer PATH") && message.contains("hf download"), "{message}");
}

#[test]
fn the_vae_has_the_same_weights_in_both_namings() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("vae");
    let ae = Writer::read(&goldens().join("single_files/ae.safetensors"));
    for prefix in ["", "vae.", "first_stage_model."] {
        ae.clone().prefixed(prefix).write(&folder.join("diffusion_pytorch_model.safetensors"));
        std::fs::copy(goldens().join("schnell/vae/config.json"), folder.join("config.json"))
            .unwrap();
        let mut source = source(&goldens().join("schnell"));
        source.vae = Some(folder.clone());
        let vae = source.resolve_with(&no_env).unwrap().load_vae(WeightDtype::F32).unwrap();
        assert_same(&vae, &schnell().load_vae(WeightDtype::F32).unwrap());
    }
}

#[test]
fn several_files_for_one_network_are_refused() {
    let (_temp, folder) = comfy_folder();
    let other = folder.join("flux1-other.safetensors");
    std::fs::copy(folder.join("flux1-schnell.safetensors"), &other).unwrap();
    let message = source(&folder).resolve_with(&no_env).unwrap_err().to_string();
    assert!(message.contains("flux1-other.safetensors and flux1-schnell.safetensors"), "{message}");
    assert!(message.contains("--transformer PATH"), "{message}");
    let mut named = source(&folder);
    named.transformer = Some(other);
    named.resolve_with(&no_env).unwrap();
}

#[test]
fn an_all_in_one_file_is_a_model() {
    let (temp, folder) = comfy_folder();
    let mut all = bfl_transformer("schnell", 1, 1).prefixed("model.diffusion_model.");
    let parts = [
        ("vae.", "ae"),
        ("text_encoders.clip_l.transformer.", "clip_l"),
        ("text_encoders.t5xxl.transformer.", "t5xxl_fp8_scaled"),
    ];
    for (prefix, name) in parts {
        let part = Writer::read(&goldens().join(format!("single_files/{name}.safetensors")));
        all.tensors.extend(part.prefixed(prefix).tensors);
    }
    all.f32("text_encoders.clip_l.transformer.text_projection.weight", &[1], &[0.0]);
    all.f32("text_encoders.clip_l.logit_scale", &[], &[4.6]);
    all.f32("text_encoders.t5xxl.logit_scale", &[], &[4.6]);
    let path = temp.path().join("all.safetensors");
    all.write(&path);
    let mut named = source(&path);
    named.tokenizer = Some(goldens().join("schnell/tokenizer"));
    named.tokenizer_2 = Some(goldens().join("schnell/tokenizer_2"));
    let files = named.resolve_with(&no_env).unwrap();
    assert!(files.tokenizers().is_ok());
    let alone = source(&folder).resolve_with(&no_env).unwrap();
    let dtype = WeightDtype::Bf16;
    assert_same(&files.load_flux(dtype).unwrap(), &alone.load_flux(dtype).unwrap());
    assert_same(&files.load_clip(dtype).unwrap(), &alone.load_clip(dtype).unwrap());
    named.text_encoder_2 = Some(goldens().join("single_files/t5xxl_fp8_scaled.safetensors"));
    let named = named.resolve_with(&no_env).unwrap();
    assert_same(&files.load_t5(dtype).unwrap(), &named.load_t5(dtype).unwrap());
    assert_eq!(files.digests().unwrap().len(), 1);
    // The golden's channels fit no 32 groups, FLUX.1's number.
    let message = files.vae_config().unwrap_err().to_string();
    assert!(message.contains("32 groups"), "{message}");
}

#[test]
fn a_file_with_one_network_asks_for_the_others() {
    let (_temp, folder) = comfy_folder();
    let path = folder.join("flux1-schnell.safetensors");
    let error = source(&path).resolve_with(&no_env).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("--vae PATH"), "{error}");
    let mut named = source(&path);
    named.vae = Some(folder.join("ae.safetensors"));
    named.text_encoder = Some(folder.join("clip_l.safetensors"));
    let error = named.resolve_with(&no_env).unwrap_err().to_string();
    assert!(error.contains("--text-encoder-2 PATH"), "{error}");
    named.text_encoder_2 = Some(folder.join("t5xxl_fp8_e4m3fn.safetensors"));
    named.resolve_with(&no_env).unwrap().load_flux(WeightDtype::Bf16).unwrap();
    named.tokenizer = Some(folder.join("tokens"));
    let error = named.resolve_with(&no_env).unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
    named.tokenizer = None;
    named.vae = Some(folder.join("ea.safetensors"));
    let error = named.resolve_with(&no_env).unwrap_err().to_string();
    assert!(error.contains("did you mean") && error.contains("ae.safetensors"), "{error}");
}

#[test]
fn a_file_of_something_else_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("lora.safetensors");
    let mut writer = Writer::default();
    writer.f32("lora_unet_x.lora_down.weight", &[1], &[0.0]);
    writer.write(&path);
    let error = source(&path).resolve_with(&no_env).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("lora_unet_x.lora_down.weight"), "{error}");
}

#[test]
fn other_pipelines_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let folder = writer::copy(&goldens().join("schnell"), &temp.path().join("model"));
    let index = folder.join("model_index.json");
    let text = files::read_text(&index).unwrap();
    let refused = |from: &str, to: &str| {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        files::write_atomic(&index, changed.as_bytes()).unwrap();
        source(&folder).resolve_with(&no_env).unwrap_err().to_string()
    };
    let message = refused("FluxPipeline", "StableDiffusion3Pipeline");
    assert!(message.contains("`_class_name`: expected \"FluxPipeline\""), "{message}");
    assert!(message.contains("StableDiffusion3Pipeline"), "{message}");
    let message = refused("AutoencoderKL", "AutoencoderTiny");
    assert!(message.contains("`vae`") && message.contains("AutoencoderTiny"), "{message}");
    std::fs::remove_dir_all(folder.join("scheduler")).unwrap();
    files::write_atomic(&index, text.as_bytes()).unwrap();
    let message = source(&folder).resolve_with(&no_env).unwrap_err().to_string();
    assert!(message.contains("expected scheduler/scheduler_config.json"), "{message}");
    // A folder without the index is taken for what its configs say it is.
    std::fs::remove_file(&index).unwrap();
    source(&folder).resolve_with(&no_env).unwrap();
    std::fs::remove_dir_all(folder.join("vae")).unwrap();
    let message = source(&folder).resolve_with(&no_env).unwrap_err().to_string();
    assert!(message.contains("its vae is not in") && message.contains("--vae PATH"), "{message}");
}

#[test]
fn networks_must_fit_each_other() {
    let dev = goldens().join("dev");
    for model in ["dev", "schnell"] {
        let configs =
            source(&goldens().join(model)).resolve_with(&no_env).unwrap().configs().unwrap();
        assert_eq!(configs.flux.guidance_embeds, model == "dev");
    }
    let unfit = |change: &dyn Fn(&mut ModelSource)| {
        let mut mixed = source(&goldens().join("schnell"));
        change(&mut mixed);
        mixed.resolve_with(&no_env).unwrap().configs().unwrap_err().to_string()
    };
    let message = unfit(&|mixed| mixed.text_encoder_2 = Some(dev.join("text_encoder_2")));
    assert!(
        message.contains("`joint_attention_dim`: expected 64, T5's d_model, found 48"),
        "{message}"
    );
    let message = unfit(&|mixed| mixed.text_encoder = Some(dev.join("text_encoder")));
    assert!(message.contains("`pooled_projection_dim`: expected 32"), "{message}");
    let message = unfit(&|mixed| {
        mixed.transformer = Some(dev.join("transformer"));
        mixed.text_encoder = Some(dev.join("text_encoder"));
    });
    assert!(message.contains("`joint_attention_dim`: expected 48"), "{message}");
    let temp = tempfile::tempdir().unwrap();
    let vae = writer::copy(&goldens().join("schnell/vae"), &temp.path().join("vae"));
    let config = files::read_text(&vae.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    for field in ["block_out_channels", "down_block_types", "up_block_types"] {
        config[field].as_array_mut().unwrap().pop();
    }
    writer::write(&vae.join("config.json"), config.to_string().as_bytes());
    let message = unfit(&|mixed| mixed.vae = Some(vae.clone()));
    assert!(message.contains("`block_out_channels`: expected 4 levels"), "{message}");
}

#[test]
fn ids_are_looked_up_in_the_cache() {
    let temp = tempfile::tempdir().unwrap();
    let cache = temp.path().join("huggingface/hub");
    let repo = cache.join("models--black-forest-labs--FLUX.1-schnell");
    writer::copy(&goldens().join("schnell"), &repo.join("snapshots").join(COMMIT));
    writer::write(&repo.join("refs/main"), COMMIT.as_bytes());
    let env = |name: &str| (name == "XDG_CACHE_HOME").then(|| temp.path().into());
    let id = ModelSource::new("black-forest-labs/FLUX.1-schnell");
    let files = id.resolve_with(&env).unwrap();
    files.load_flux(WeightDtype::Bf16).unwrap();
    assert_same(
        &files.load_vae(WeightDtype::F32).unwrap(),
        &schnell().load_vae(WeightDtype::F32).unwrap(),
    );
    let error = id.resolve_with(&no_env).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("hf download black-forest-labs/FLUX.1-schnell"), "{error}");
    let typo = ModelSource::new("black-forest-labs/FLUX.1-dve").resolve_with(&env).unwrap_err();
    assert!(typo.to_string().contains("there is no such file or folder here"), "{typo}");
    // Single files take the tokenizers of that model.
    let (_comfy, folder) = comfy_folder();
    assert!(source(&folder).resolve_with(&env).unwrap().tokenizers().is_ok());
    std::fs::remove_dir_all(repo.join("snapshots").join(COMMIT).join("vae")).unwrap();
    let error = id.resolve_with(&env).unwrap_err().to_string();
    assert!(error.contains("complete the download with `hf download black-forest"), "{error}");
}

#[test]
fn what_does_not_exist_is_told_with_the_nearest_name() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("flux-schnell")).unwrap();
    let error = source(&temp.path().join("flux-schnel")).resolve_with(&no_env).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(
        error.to_string().contains("did you mean") && error.to_string().contains("flux-schnell")
    );
    let error = ModelSource::new("synthetic:sd3").resolve_with(&no_env).unwrap_err().to_string();
    assert!(error.contains("synthetic:flux-schnell"), "{error}");
}

#[test]
fn the_demo_loads_where_it_is_at_hand() {
    match ModelSource::new("demo").resolve_with(&no_env) {
        Ok(files) => {
            files.load_flux(WeightDtype::Bf16).unwrap();
            files.load_vae(WeightDtype::Bf16).unwrap();
            files.load_clip(WeightDtype::Bf16).unwrap();
            files.load_t5(WeightDtype::Bf16).unwrap();
            assert!(files.tokenizers().is_ok() && files.scheduler_config().is_ok());
            assert!(files.digests().unwrap().len() >= 4);
        }
        Err(error) => {
            assert_eq!(error.exit_code(), 4);
            assert!(error.to_string().contains("embed-demo"), "{error}");
        }
    }
}

#[test]
fn digests_are_those_of_the_files() {
    let digests = schnell().digests().unwrap();
    let names: Vec<&str> = digests.iter().map(|digest| digest.file.as_str()).collect();
    let expected = [
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder_2/model.safetensors",
    ];
    assert_eq!(names, expected);
    assert!(digests.iter().all(|digest| digest.sha256.len() == 64));
}

#[cfg(unix)]
#[test]
fn files_of_the_cache_are_named_by_their_digest() {
    let temp = tempfile::tempdir().unwrap();
    let model = writer::copy(&goldens().join("schnell"), &temp.path().join("snapshots/commit"));
    let name = "ab".repeat(32);
    let blob = temp.path().join("blobs").join(&name);
    std::fs::create_dir(temp.path().join("blobs")).unwrap();
    let file = model.join("vae/diffusion_pytorch_model.safetensors");
    std::fs::rename(&file, &blob).unwrap();
    std::os::unix::fs::symlink(format!("../../../blobs/{name}"), &file).unwrap();
    let files = source(&model).resolve_with(&no_env).unwrap();
    files.load_vae(WeightDtype::F32).unwrap();
    assert_eq!(files.digests().unwrap()[1].sha256, name);
}

#[test]
fn sizes_of_a_single_file_are_those_of_its_shapes() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("flux1-x.safetensors");
    bfl_transformer("dev", 2, 2).write(&path);
    let checkpoint =
        flux_rt::model::weights::checkpoint::Checkpoint::open(&files::File::Disk(path));
    let checkpoint = checkpoint.unwrap();
    let component = flux_rt::model::weights::naming::Component::Transformer;
    let reader = flux_rt::model::weights::reader::Reader::new(&checkpoint, component).unwrap();
    let message = FluxConfig::infer(&reader).unwrap_err().to_string();
    assert!(message.contains("head size 128") && message.contains("found 64"), "{message}");
}
