//! What a run did: the document of `run --json`, and the metadata of its pictures.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::job::Job;
use crate::cli::progress::milliseconds;
use crate::error::Result;
use crate::pipeline::Engine;
use crate::pipeline::Generated;
use crate::pipeline::Metadata;
use crate::pipeline::Rng;
use crate::pipeline::Settings;
use crate::pipeline::Timings;
use crate::pipeline::image;
use crate::pipeline::metadata;

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
    cache: String,
    load_ms: f64,
    /// The pictures asked for; `pictures` has those that were finished.
    pub(super) pictures_asked: usize,
    pub(super) pictures: Vec<PictureRecord>,
    latents: Option<PathBuf>,
    pub(super) save_latents: Option<PathBuf>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ComponentRecord {
    transformer: Option<PathBuf>,
    vae: Option<PathBuf>,
    text_encoder: Option<PathBuf>,
    text_encoder_2: Option<PathBuf>,
    tokenizer: Option<PathBuf>,
    tokenizer_2: Option<PathBuf>,
}

/// A finished picture.
#[derive(Debug, Serialize)]
pub(super) struct PictureRecord {
    pub(super) path: PathBuf,
    prompt: String,
    prompt_2: Option<String>,
    seed: u64,
    width: usize,
    height: usize,
    steps: usize,
    guidance: Option<f32>,
    max_sequence_length: usize,
    rng: String,
    /// The grid that `torch-cuda` repeats, in blocks.
    rng_grid: Option<u32>,
    dropped_tokens: DroppedTokens,
    timings: TimingsRecord,
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
            cache: job.cache.to_string(),
            load_ms: milliseconds(engine.load_ms()),
            pictures_asked,
            pictures: Vec::new(),
            latents: job.latents_file.clone(),
            save_latents: None,
            notes: engine.notes(),
        }
    }

    /// Adds a picture that lies at `path`.
    pub(super) fn add(&mut self, path: PathBuf, made: &Generated) {
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
        } = made.settings.clone();
        let [clip, t5] = made.dropped_tokens;
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
            rng: rng.to_string(),
            rng_grid: grid(rng),
            dropped_tokens: DroppedTokens { clip, t5 },
            timings: timings(&made.timings),
        });
    }
}

/// The PNG of a picture, with all that is needed to make it again.
///
/// # Errors
/// When a weight file cannot be read for its digest.
pub(super) fn png(job: &Job, engine: &mut Engine, made: &Generated) -> Result<Vec<u8>> {
    let weights = engine.weight_digests()?.iter().cloned().collect();
    let settings = &made.settings;
    let latents = job.latents_file.as_ref().map(|path| path.display().to_string());
    let metadata = Metadata {
        schema: metadata::SCHEMA,
        program_version: env!("CARGO_PKG_VERSION").into(),
        model: job.source.model.clone(),
        weights,
        prompt: settings.prompt.clone(),
        prompt_2: settings.prompt_2.clone(),
        width: settings.width,
        height: settings.height,
        steps: settings.steps,
        guidance: settings.guidance,
        seed: settings.seed,
        rng_grid: grid(settings.rng).filter(|_| latents.is_none()),
        rng: latents.unwrap_or_else(|| settings.rng.to_string()),
        dtype: engine.dtype().to_string(),
        device: engine.device_name(),
        mode: job.mode.to_string(),
        cache: job.cache.to_string(),
        max_sequence_length: settings.max_sequence_length,
    };
    let texts = metadata.texts()?;
    let texts = texts.each_ref().map(|(keyword, text)| (*keyword, text.as_str()));
    image::encode_png(&made.image, &texts)
}

fn grid(rng: Rng) -> Option<u32> {
    match rng {
        Rng::TorchCuda { grid } => Some(grid.blocks()),
        Rng::TorchCpu | Rng::TorchCpuLegacy => None,
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
