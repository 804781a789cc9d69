//! What a run did: the document of `run --json`.

use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;
use serde::Serializer;

use crate::cache::CacheLog;
use crate::cache::CacheRecord;
use crate::cli::job::Job;
use crate::cli::progress::milliseconds;
use crate::error::Result;
use crate::pipeline::Engine;
use crate::pipeline::Generated;
use crate::pipeline::Settings;
use crate::pipeline::Timings;
use crate::pipeline::metadata::cache_name;
use crate::pipeline::metadata::noise;

/// Raised when a field changes its meaning or goes; new fields may come at any time.
const SCHEMA_VERSION: u32 = 1;

/// The document of `run --json`.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    schema_version: u32,
    program: &'static str,
    version: &'static str,
    /// `complete`, `interrupted` or `failed`.
    pub(super) status: &'static str,
    /// What went wrong, when `status` is `failed`.
    pub(super) error: Option<String>,
    model: String,
    components: ComponentRecord,
    device: String,
    dtype: String,
    mode: String,
    /// What T5 computes in where that is not `dtype`.
    #[serde(skip_serializing_if = "Option::is_none")]
    t5_dtype: Option<&'static str>,
    cache: String,
    load_ms: f64,
    /// The pictures asked for; `pictures` has those that were finished.
    pub(super) pictures_asked: usize,
    pub(super) pictures: Vec<PictureRecord>,
    #[serde(serialize_with = "lossy_option")]
    latents: Option<PathBuf>,
    #[serde(serialize_with = "lossy_option")]
    pub(super) save_latents: Option<PathBuf>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ComponentRecord {
    #[serde(serialize_with = "lossy_option")]
    transformer: Option<PathBuf>,
    #[serde(serialize_with = "lossy_option")]
    vae: Option<PathBuf>,
    #[serde(serialize_with = "lossy_option")]
    text_encoder: Option<PathBuf>,
    #[serde(serialize_with = "lossy_option")]
    text_encoder_2: Option<PathBuf>,
    #[serde(serialize_with = "lossy_option")]
    tokenizer: Option<PathBuf>,
    #[serde(serialize_with = "lossy_option")]
    tokenizer_2: Option<PathBuf>,
}

/// A finished picture.
#[derive(Debug, Serialize)]
pub(super) struct PictureRecord {
    #[serde(serialize_with = "lossy")]
    pub(super) path: PathBuf,
    prompt: String,
    prompt_2: Option<String>,
    seed: u64,
    width: usize,
    height: usize,
    steps: usize,
    guidance: Option<f32>,
    max_sequence_length: usize,
    vae_tiling: bool,
    rng: String,
    /// The grid that `torch-cuda` repeats, in blocks.
    rng_grid: Option<u32>,
    dropped_tokens: DroppedTokens,
    timings: TimingsRecord,
    /// Options and decisions of the cache; null without one.
    cache: Option<CacheRecord>,
    /// Milliseconds that the cache saved, against the median of the steps computed in full.
    saved_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct DroppedTokens {
    clip: usize,
    t5: usize,
}

#[derive(Debug, Serialize)]
struct TimingsRecord {
    encode_ms: f64,
    prepare_ms: f64,
    denoise_ms: f64,
    decode_ms: f64,
    total_ms: f64,
}

impl Record {
    /// The record of a run that has not finished a picture yet.
    pub(super) fn new(job: &Job, engine: &Engine, pictures_asked: usize) -> Self {
        let source = job.source.clone();
        Self {
            schema_version: SCHEMA_VERSION,
            program: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            status: "complete",
            error: None,
            model: source.model,
            components: ComponentRecord {
                transformer: source.transformer,
                vae: source.vae,
                text_encoder: source.text_encoder,
                text_encoder_2: source.text_encoder_2,
                tokenizer: source.tokenizer,
                tokenizer_2: source.tokenizer_2,
            },
            device: engine.device_name(),
            dtype: engine.dtype().to_string(),
            mode: job.mode.to_string(),
            t5_dtype: engine.t5_dtype(),
            cache: cache_name(job.template.cache.as_ref()),
            load_ms: milliseconds(engine.load_ms()),
            pictures_asked,
            pictures: Vec::new(),
            latents: job.latents_file.clone(),
            save_latents: None,
            notes: engine.notes(),
        }
    }

    /// Adds a picture that lies at `path`.
    pub(super) fn add(&mut self, job: &Job, path: PathBuf, made: &Generated) {
        let Settings {
            prompt,
            prompt_2,
            width,
            height,
            steps,
            guidance,
            seed,
            rng,
            max_sequence_length,
            vae_tiling,
            cache: _,
            own_latents: _,
        } = made.settings.clone();
        let [clip, t5] = made.dropped_tokens;
        let (rng, rng_grid) = noise(job.latents_file.as_deref(), rng);
        self.pictures.push(PictureRecord {
            path,
            prompt,
            prompt_2,
            seed,
            width,
            height,
            steps,
            guidance,
            max_sequence_length,
            vae_tiling,
            rng,
            rng_grid,
            dropped_tokens: DroppedTokens { clip, t5 },
            timings: timings(&made.timings),
            cache: made.cache_record(),
            saved_ms: made.cache.as_ref().and_then(CacheLog::saved_ms).map(milliseconds),
        });
    }
}

/// JSON is UTF-8, a path need not be: what is not is replaced.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn lossy_option<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => lossy(path, serializer),
        None => serializer.serialize_none(),
    }
}

fn timings(timings: &Timings) -> TimingsRecord {
    TimingsRecord {
        encode_ms: milliseconds(timings.encode_ms),
        prepare_ms: milliseconds(timings.prepare_ms),
        denoise_ms: milliseconds(timings.denoise_ms),
        decode_ms: milliseconds(timings.decode_ms),
        total_ms: milliseconds(timings.total_ms()),
    }
}
