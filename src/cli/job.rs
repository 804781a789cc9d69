//! A checked `run`: what the flags mean together. What is wrong is found here, before a model is
//! loaded.

use std::path::PathBuf;

use anyhow::Result;

use crate::cache::CacheOptions;
use crate::cli::args::ComputeArgs;
use crate::cli::args::ModelArgs;
use crate::cli::args::PromptArgs;
use crate::cli::args::RngArgs;
use crate::cli::args::RngName;
use crate::cli::args::RunArgs;
use crate::cli::args::ShapeArgs;
use crate::cli::args::TierName;
use crate::cli::from::Repeat;
use crate::cli::output;
use crate::cli::output::Destination;
use crate::cli::prompts;
use crate::cli::stream;
use crate::device::Tensor;
use crate::elastic::Mode;
use crate::error::Error;
use crate::model::source::ModelSource;
use crate::ops::noise::Grid;
use crate::pipeline::DType;
use crate::pipeline::Defaults;
use crate::pipeline::DeviceChoice;
use crate::pipeline::Engine;
use crate::pipeline::EngineBuilder;
use crate::pipeline::Request;
use crate::pipeline::Rng;
use crate::pipeline::Settings;
use crate::pipeline::latents;

/// Pictures of a run: months of work, and few enough to be listed.
const MAX_PICTURES: usize = 1_000_000;

/// Everything that a run needs.
#[derive(Debug)]
pub(super) struct Job {
    /// The picture that is repeated.
    pub(super) from: Option<Repeat>,
    pub(super) source: ModelSource,
    pub(super) compute: ComputeArgs,
    pub(super) mode: Mode,
    /// Empty means the model's example prompt.
    pub(super) prompts: Vec<String>,
    /// Pictures of each prompt.
    pub(super) count: usize,
    /// Initial latents: none, one for every picture, or one for all.
    pub(super) latents: Vec<Tensor<f32, 2>>,
    /// Where they come from.
    pub(super) latents_file: Option<PathBuf>,
    /// What all pictures have in common.
    pub(super) template: Request,
    pub(super) destination: Destination,
    pub(super) save_latents: Option<PathBuf>,
    pub(super) json: bool,
}

impl Job {
    /// Checks the flags of `run`.
    ///
    /// # Errors
    /// [`Error::Request`] for what cannot be, [`Error::Write`] for an output that cannot be made.
    pub(super) fn new(args: RunArgs) -> Result<Self> {
        let RunArgs { from, prompts, picture, mut speed, cache, mut model, noise, output } = args;
        let mut template = template(&prompts, &picture.shape, picture.seed, &noise.rng)?;
        let from = from.from.map(|path| Repeat::read("from", &path, from.given)).transpose()?;
        let (prompts, from) = match from {
            None => {
                check_speed(&speed.compute, &speed.mode)?;
                template.cache = cache.options()?;
                check_values(&template)?;
                (prompt_list(prompts)?, None)
            }
            Some(mut from) => {
                let mut prompts = prompt_list(prompts)?;
                from.fill(&mut template, &mut prompts, &mut speed, &mut model)?;
                template.cache = from.cache(Some(*cache))?;
                from.check(&template, &speed)?;
                (prompts, Some(from))
            }
        };
        let pictures = prompts.len().max(1).checked_mul(picture.count);
        let Some(pictures @ 1..=MAX_PICTURES) = pictures else {
            let found = picture.count;
            let expected = format!("1 to {MAX_PICTURES} pictures of all prompts");
            return refuse("count", format!("expected {expected}, found {found} of each"));
        };
        let last = u64::try_from(picture.count - 1).ok();
        if last.and_then(|last| template.seed.checked_add(last)).is_none() {
            refuse("seed", "expected seed + count - 1 below 2^64")?;
        }
        let latents = match &noise.latents {
            Some(path) => initial_latents(path, &mut template, pictures)?,
            None => Vec::new(),
        };
        let destination = Destination::new(&output.out, pictures, output.overwrite)?;
        if let Some(path) = &output.save_latents {
            output::check_file("save-latents", path, output.overwrite)?;
            if destination == Destination::File(path.clone()) {
                refuse("save-latents", "expected another file than --out, found the same")?;
            }
        }
        Ok(Self {
            from,
            source: source(model),
            compute: speed.compute,
            mode: speed.mode,
            prompts,
            count: picture.count,
            latents,
            latents_file: noise.latents,
            template,
            destination,
            save_latents: output.save_latents,
            json: output.json,
        })
    }

    /// An error about a picture that is repeated says of which one.
    ///
    /// # Errors
    /// Those of `outcome`.
    pub(super) fn in_context<T>(&self, outcome: crate::error::Result<T>) -> Result<T> {
        match &self.from {
            Some(from) => from.in_context(outcome),
            None => Ok(outcome?),
        }
    }

    /// One request for every picture: all of the first prompt, then all of the second.
    pub(super) fn requests(&self) -> Vec<Request> {
        let prompts: Vec<Option<&String>> = match self.prompts.is_empty() {
            true => vec![None],
            false => self.prompts.iter().map(Some).collect(),
        };
        let seeds = self.template.seed..=u64::MAX;
        let pictures = prompts.into_iter().flat_map(|prompt| {
            seeds.clone().take(self.count).map(move |seed| (prompt.cloned(), seed))
        });
        let latents = |index| match self.latents.as_slice() {
            [only] => Some(only),
            several => several.get(index),
        };
        let request = |(index, (prompt, seed))| {
            let latents = latents(index).cloned();
            Request { prompt, seed, latents, ..self.template.clone() }
        };
        pictures.enumerate().map(request).collect()
    }
}

/// Refuses options that exclude each other, and a mode that names no file.
pub(super) fn check_speed(compute: &ComputeArgs, mode: &Mode) -> Result<()> {
    if compute.dtype == DType::F32 && matches!(compute.device, DeviceChoice::Cuda(_)) {
        refuse("dtype", "expected auto or bf16 on cuda, found f32; --device cpu has f32")?;
    }
    if compute.max_vram.is_some() && compute.device == DeviceChoice::Cpu {
        refuse("max-vram", "expected a GPU, whose memory it limits, found --device cpu")?;
    }
    match mode {
        Mode::Plan(path) if !path.is_file() => {
            refuse("mode", format!("there is no plan file {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What all pictures have in common, without a cache.
pub(super) fn template(
    prompts: &PromptArgs,
    shape: &ShapeArgs,
    seed: u64,
    noise: &RngArgs,
) -> Result<Request> {
    Ok(Request {
        prompt_2: prompts.prompt_2.clone(),
        width: shape.width,
        height: shape.height,
        steps: shape.steps,
        guidance: shape.guidance,
        seed,
        rng: rng(noise)?,
        max_sequence_length: shape.max_sequence_length,
        vae_tiling: shape.vae_tiling,
        ..Request::default()
    })
}

/// An engine's builder for where and in what to compute.
pub(super) fn builder(source: ModelSource, compute: &ComputeArgs) -> EngineBuilder {
    Engine::builder()
        .source(source)
        .device(compute.device)
        .dtype(compute.dtype)
        .portable(compute.tier == TierName::Portable)
        .max_vram(compute.max_vram)
}

/// The model that the flags name.
pub(super) fn source(model: ModelArgs) -> ModelSource {
    ModelSource {
        model: model.model,
        transformer: model.transformer,
        vae: model.vae,
        text_encoder: model.text_encoder,
        text_encoder_2: model.text_encoder_2,
        tokenizer: model.tokenizer,
        tokenizer_2: model.tokenizer_2,
    }
}

pub(super) fn prompt_list(args: PromptArgs) -> Result<Vec<String>> {
    let PromptArgs { prompt, prompt_file, prompt_2: _ } = args;
    let Some(file) = prompt_file else {
        if prompts::look_unquoted(&prompt) {
            let count = prompt.len();
            stream::note(&format!(
                "{count} prompts of one word each; put quotes around a prompt of several words"
            ));
        }
        return Ok(prompt);
    };
    if !prompt.is_empty() {
        refuse("prompt-file", "expected one of --prompt and --prompt-file, found both")?;
    }
    Ok(prompts::read_file(&file)?)
}

fn rng(args: &RngArgs) -> Result<Rng> {
    match (args.rng, args.rng_grid) {
        (RngName::TorchCuda, grid) => Ok(Rng::TorchCuda { grid }),
        (_, Some(_)) => refuse("rng-grid", "only --rng torch-cuda has a grid; leave it out"),
        (RngName::TorchCpu, None) => Ok(Rng::TorchCpu),
        (RngName::TorchCpuLegacy, None) => Ok(Rng::TorchCpuLegacy),
    }
}

/// Checks the values that were given as far as that goes without knowing the model.
pub(super) fn check_values(template: &Request) -> Result<()> {
    let any_model = Defaults {
        prompt: String::new(),
        width: 16,
        height: 16,
        steps: 1,
        guidance: Some(0.0),
        max_sequence_length: 1,
        noise_grid: Grid::H100,
        // How many blocks there are is the model's affair.
        blocks: [usize::MAX / 4; 2],
    };
    template.cache.as_ref().map_or(Ok(()), CacheOptions::check)?;
    // How many steps there are is the model's affair too, unless they were asked for.
    let cache = template.steps.and(template.cache.clone());
    Settings::new(&Request { cache, ..template.clone() }, &any_model)?;
    Ok(())
}

/// Reads `--latents`; unpacked ones set the size if the flags do not.
///
/// # Errors
/// [`Error::Request`] for as many as are not needed or of another size; those of reading the file.
pub(super) fn initial_latents(
    path: &std::path::Path,
    template: &mut Request,
    pictures: usize,
) -> Result<Vec<Tensor<f32, 2>>> {
    let file = latents::read(path).map_err(|error| match error {
        Error::Read { path, source } => {
            let reason = format!("cannot read {}: {source}", path.display());
            Error::Request { field: "latents", reason }
        }
        other => other,
    })?;
    let found = file.packed.len();
    if found != pictures && found != 1 {
        let expected = if pictures == 1 { "1".into() } else { format!("1 or {pictures}") };
        refuse("latents", format!("expected {expected} for the pictures asked, found {found}"))?;
    }
    let Some([width, height]) = file.size else { return Ok(file.packed) };
    let asked = [template.width.unwrap_or(width), template.height.unwrap_or(height)];
    if asked != [width, height] {
        let [x, y] = asked;
        refuse(
            "latents",
            format!("expected latents for {x}x{y}, found some for {width}x{height}"),
        )?;
    }
    (template.width, template.height) = (Some(width), Some(height));
    Ok(file.packed)
}

fn refuse<T>(field: &'static str, reason: impl Into<String>) -> Result<T> {
    Err(Error::Request { field, reason: reason.into() }.into())
}
