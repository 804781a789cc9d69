//! One function for each kind of file that people hand to the program: the program's own readers over any
//! bytes. `fuzz_targets/` and `tests/hostile/fuzz.rs` call them; an error is an answer, a panic is a bug.

use std::path::Path;
use std::path::PathBuf;

use flux_rt::cache;
use flux_rt::cli::read_prompts;
use flux_rt::elastic;
use flux_rt::files;
use flux_rt::files::File;
use flux_rt::files::Folder;
use flux_rt::model::config::ClipConfig;
use flux_rt::model::config::FluxConfig;
use flux_rt::model::config::SchedulerConfig;
use flux_rt::model::config::T5Config;
use flux_rt::model::config::VaeConfig;
use flux_rt::model::source::ModelSource;
use flux_rt::model::tokenizer::ClipTokenizer;
use flux_rt::model::tokenizer::T5Tokenizer;
use flux_rt::model::weights::checkpoint::Checkpoint;
use flux_rt::model::weights::clip::ClipWeights;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::flux::FluxWeights;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;
use flux_rt::model::weights::t5::T5Weights;
use flux_rt::model::weights::vae::VaeWeights;
use flux_rt::pipeline::Metadata;
use flux_rt::pipeline::Receipt;
use flux_rt::pipeline::image;
use flux_rt::pipeline::latents;

/// A target.
pub(crate) type Target = fn(&[u8]);

/// All of them by the names of their folders in `corpus`.
pub(crate) const TARGETS: [(&str, Target); 8] = [
    ("safetensors", safetensors),
    ("index", index),
    ("config", config),
    ("tokenizer", tokenizer),
    ("plan", plan),
    ("cache", cache),
    ("metadata", metadata),
    ("prompts", prompts),
];

/// Texts that reach much of a tokenizer: words, digits, signs, white space, letters of several bytes.
const TEXT: &str =
    "It's a red  apple, 42\u{a0}\u{85}\t\u{fb01}ne! \u{72d0}\u{1f98a}\u{301} <pad></s>";

/// A file of these bytes in a folder that lives as long as the value.
struct OnDisk {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl OnDisk {
    fn new(name: &str, bytes: &[u8]) -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let path = folder.path().join(name);
        #[allow(
            clippy::disallowed_methods,
            reason = "a file that is gone at once need not be synced"
        )]
        std::fs::write(&path, bytes).ok()?;
        Some(Self { folder, path })
    }

    fn file(&self) -> File {
        File::Disk(self.path.clone())
    }
}

/// A weight file: its header, the sizes that its tensors tell, and the networks themselves.
pub(crate) fn safetensors(bytes: &[u8]) {
    let Some(disk) = OnDisk::new("x.safetensors", bytes) else { return };
    drop(latents::read(&disk.path));
    drop(ModelSource::new(disk.path.to_string_lossy()).resolve_with(&|_| None));
    let Ok(checkpoint) = Checkpoint::open(&disk.file()) else { return };
    for component in Component::ALL {
        let Ok(mut reader) = Reader::new(&checkpoint, component) else { continue };
        load(&mut reader, component);
    }
}

fn load(reader: &mut Reader<'_>, component: Component) {
    let dtype = WeightDtype::Bf16;
    match component {
        Component::Transformer => {
            let config = FluxConfig::infer(reader);
            drop(config.and_then(|config| FluxWeights::load(reader, &config.into(), dtype)));
        }
        Component::Vae => {
            let config = VaeConfig::infer(reader);
            drop(config.and_then(|config| VaeWeights::load(reader, &config, dtype)));
        }
        Component::TextEncoder => {
            let config = ClipConfig::infer(reader);
            drop(config.and_then(|config| ClipWeights::load(reader, &config, dtype)));
        }
        Component::TextEncoder2 => {
            let config = T5Config::infer(reader);
            drop(config.and_then(|config| T5Weights::load(reader, &config, dtype)));
        }
    }
}

/// The index of sharded weights, with one shard beside it.
pub(crate) fn index(bytes: &[u8]) {
    let Some(disk) = OnDisk::new("model.safetensors.index.json", bytes) else { return };
    let header = br#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let shard = [&(header.len() as u64).to_le_bytes()[..], header, &[0]].concat();
    #[allow(clippy::disallowed_methods, reason = "a file that is gone at once need not be synced")]
    let written = std::fs::write(disk.folder.path().join("a.safetensors"), shard);
    if written.is_ok() {
        drop(Checkpoint::open_folder(&Folder::Disk(disk.folder.path().into())));
    }
}

/// Any of the JSON files that say what a model is.
pub(crate) fn config(bytes: &[u8]) {
    let Some(disk) = OnDisk::new("model_index.json", bytes) else { return };
    let file = disk.file();
    drop(FluxConfig::read(&file));
    drop(VaeConfig::read(&file));
    drop(ClipConfig::read(&file));
    drop(T5Config::read(&file));
    drop(SchedulerConfig::read(&file));
    drop(ModelSource::new(disk.folder.path().to_string_lossy()).resolve_with(&|_| None));
}

/// A `tokenizer.json` of either kind; where a byte 1 parts it, CLIP's two files.
pub(crate) fn tokenizer(bytes: &[u8]) {
    let path = Path::new("tokenizer.json");
    let mut parts = bytes.splitn(2, |byte| *byte == b'\x01');
    let clip = match (parts.next(), parts.next()) {
        (Some(vocab), Some(merges)) => {
            ClipTokenizer::from_vocab_and_merges(vocab, path, merges, Path::new("merges.txt"))
        }
        _ => ClipTokenizer::from_json(bytes, path),
    };
    if let Ok(clip) = clip {
        drop(clip.encode(TEXT, 77));
    }
    if let Ok(t5) = T5Tokenizer::from_json(bytes, path) {
        drop(t5.encode(TEXT, 64));
    }
}

/// A plan of the demo model's transformer.
pub(crate) fn plan(bytes: &[u8]) {
    let Some(disk) = OnDisk::new("plan.json", bytes) else { return };
    let config = FluxConfig {
        in_channels: 64,
        out_channels: None,
        num_layers: 6,
        num_single_layers: 8,
        attention_head_dim: 64,
        num_attention_heads: 3,
        joint_attention_dim: 128,
        pooled_projection_dim: 128,
        guidance_embeds: true,
        axes_dims_rope: [8, 28, 28],
    };
    if let Ok(plan) = elastic::file::read(&disk.file(), &config) {
        let text = elastic::file::to_json(&plan);
        let again = elastic::file::parse(&text, &disk.path, &config);
        assert!(again.is_ok_and(|again| again == plan), "a plan survives its file");
    }
}

/// The options of a cache.
pub(crate) fn cache(bytes: &[u8]) {
    let Some(disk) = OnDisk::new("cache.toml", bytes) else { return };
    drop(cache::file::read(&disk.path));
}

/// A picture with its texts, and the texts alone as the settings that a picture holds.
pub(crate) fn metadata(bytes: &[u8]) {
    let path = Path::new("a.png");
    if let Ok((_, texts)) = image::decode_png(bytes, path) {
        drop(Receipt::read(&texts, path));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Metadata::from_json(text, path));
        drop(Receipt::read(&[("flux-rt".to_owned(), text.to_owned())], path));
    }
}

/// A file of prompts.
pub(crate) fn prompts(bytes: &[u8]) {
    let Some(disk) = OnDisk::new("prompts.txt", bytes) else { return };
    drop(read_prompts(&disk.path));
    drop(files::read_text(&disk.path));
}
