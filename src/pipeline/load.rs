//! From a model's files to everything that an engine holds in memory.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::device::Device;
use crate::error::Error;
use crate::error::Result;
use crate::error::json_error;
use crate::files::File;
use crate::files::Folder;
use crate::model::config::SchedulerConfig;
use crate::model::plan::BlockPlans;
use crate::model::source::ModelConfigs;
use crate::model::source::ModelFiles;
use crate::model::source::Weights;
use crate::model::tokenizer::ClipTokenizer;
use crate::model::tokenizer::T5Tokenizer;
use crate::model::weights::clip::ClipWeights;
use crate::model::weights::dtype::WeightDtype;
use crate::model::weights::flux::FluxWeights;
use crate::model::weights::t5::T5Weights;
use crate::model::weights::tensor_source::Placement;
use crate::model::weights::vae::VaeWeights;
use crate::ops::noise::Grid;
use crate::pipeline::Defaults;
use crate::pipeline::request::MAX_SIDE;
use crate::pipeline::request::TOKEN;

/// The loaded networks and what feeds them.
#[derive(Debug)]
pub(crate) struct Components {
    /// Where the weights are and the networks run.
    pub(crate) device: Device,
    pub(crate) clip_tokenizer: ClipTokenizer,
    pub(crate) t5_tokenizer: T5Tokenizer,
    pub(crate) clip: ClipWeights,
    pub(crate) t5: T5Weights,
    pub(crate) flux: FluxWeights,
    pub(crate) vae: VaeWeights,
    pub(crate) scheduler: SchedulerConfig,
}

/// T5 tokens of dev and its family, and the most that any FLUX.1 model was trained for.
pub(crate) const MAX_T5_TOKENS: usize = 512;
/// T5 tokens of schnell.
const SCHNELL_T5_TOKENS: usize = 256;
/// Drawn when the model names no example: the prompt of the FLUX.1 model cards.
const EXAMPLE_PROMPT: &str = "A cat holding a sign that says hello world";

/// Bytes of a tokenizer's longest file; T5's and CLIP's `tokenizer.json` are 2.4 MB long.
const MOST_TOKENIZER: usize = 8 << 20;
/// Bytes of the other JSON files read here; T5's `tokenizer_config.json`, the longest, is 21 kB long.
const MOST_JSON: usize = 1 << 20;

/// The fields of `elastic.json` that a run needs.
#[derive(Debug, Deserialize)]
pub(super) struct Elastic {
    example_prompt: Option<String>,
    /// What it holds is for people.
    pub(super) trained_widths: Option<IgnoredAny>,
}

/// The field of `tokenizer_config.json` that says how long a text may be.
#[derive(Debug, Deserialize)]
struct TokenizerConfig {
    // Some tokenizers write 1e30 for "no limit", which no integer holds.
    model_max_length: Option<f64>,
}

impl Components {
    /// Loads all of a model. On the CPU the VAE is kept as f32 whatever the others are: it is small.
    pub(crate) fn load(
        files: &ModelFiles,
        configs: ModelConfigs,
        plans: &[BlockPlans],
        placement: &Placement,
    ) -> Result<Self> {
        // The small parts first: what is wrong with them shows before gigabytes are read.
        let (clip_folder, t5_folder) = files.tokenizers()?;
        let clip_tokenizer = clip_tokenizer(clip_folder)?;
        let t5_tokenizer = t5_tokenizer(t5_folder)?;
        expect_rows(clip_folder, clip_tokenizer.largest_id(), configs.clip.vocab_size)?;
        expect_end(files, &clip_tokenizer, configs.clip.eos_token_id)?;
        expect_rows(t5_folder, t5_tokenizer.largest_id(), configs.t5.vocab_size)?;
        files.check_weights(plans, placement)?;
        let vae_placement = match placement.device {
            Device::Cpu => WeightDtype::F32.into(),
            Device::Cuda(_) => placement.clone(),
        };
        let (flux, rest) = rayon::join(
            || files.load_flux_for(plans, placement.clone()),
            || {
                Ok((
                    files.load_clip(placement.clone())?,
                    files.load_t5(placement.clone())?,
                    files.load_vae(vae_placement)?,
                ))
            },
        );
        let flux = flux?;
        let (clip, t5, vae) = rest?;
        Ok(Self {
            device: placement.device.clone(),
            clip_tokenizer,
            t5_tokenizer,
            clip,
            t5,
            flux,
            vae,
            scheduler: configs.scheduler,
        })
    }
}

/// What a request without values gets.
pub(crate) fn defaults(
    device: &Device,
    files: &ModelFiles,
    configs: &ModelConfigs,
) -> Result<Defaults> {
    let guided = configs.flux.guidance_embeds;
    let synthetic = matches!(files.transformer.weights, Weights::Synthetic { .. });
    // The VAE's own size, made one that can be drawn.
    let side = (configs.vae.sample_size / TOKEN * TOKEN).clamp(TOKEN, MAX_SIDE);
    let noise_grid = match device {
        Device::Cpu => Grid::H100,
        Device::Cuda(cuda) => Grid::of_card(cuda.multiprocessors(), cuda.threads())?,
    };
    Ok(Defaults {
        noise_grid,
        blocks: [configs.flux.num_layers, configs.flux.num_single_layers],
        prompt: example_prompt(files.elastic.as_ref())?,
        width: side,
        height: side,
        steps: if guided { 28 } else { 4 },
        guidance: guided.then_some(3.5),
        max_sequence_length: match tokenizer_length(files.tokenizers()?.1)? {
            // The tokenizer is the demo model's, which is used with few tokens.
            Some(_) if synthetic && guided => MAX_T5_TOKENS,
            Some(_) if synthetic => SCHNELL_T5_TOKENS,
            Some(length) => length.min(MAX_T5_TOKENS),
            None if guided => MAX_T5_TOKENS,
            None => SCHNELL_T5_TOKENS,
        },
    })
}

fn clip_tokenizer(folder: &Folder) -> Result<ClipTokenizer> {
    if let (Some(vocab), Some(merges)) = (folder.file("vocab.json"), folder.file("merges.txt")) {
        let text = |file: &File| file.text_up_to(MOST_TOKENIZER);
        let (vocab_text, merges_text) = (text(&vocab)?, text(&merges)?);
        return ClipTokenizer::from_vocab_and_merges(
            vocab_text.as_bytes(),
            vocab.path(),
            merges_text.as_bytes(),
            merges.path(),
        );
    }
    let file = required(folder, "tokenizer.json", "vocab.json with merges.txt, or tokenizer.json")?;
    ClipTokenizer::from_json(file.text_up_to(MOST_TOKENIZER)?.as_bytes(), file.path())
}

fn t5_tokenizer(folder: &Folder) -> Result<T5Tokenizer> {
    let file = required(folder, "tokenizer.json", "tokenizer.json")?;
    T5Tokenizer::from_json(file.text_up_to(MOST_TOKENIZER)?.as_bytes(), file.path())
}

fn required(folder: &Folder, name: &str, expected: &str) -> Result<File> {
    folder.file(name).ok_or_else(|| Error::Format {
        path: folder.path().to_owned(),
        reason: format!("expected {expected} in this folder, found no such file"),
    })
}

/// Fails if CLIP would look for another end of the text than its tokenizer writes.
fn expect_end(files: &ModelFiles, tokenizer: &ClipTokenizer, eos: u32) -> Result<()> {
    let end = tokenizer.end_id();
    // Old configs say 2 and mean the largest id, which is the end; so does what has no config.
    match &files.text_encoder.config {
        Some(file) if eos != 2 && eos != end => Err(Error::Config {
            path: file.path().to_owned(),
            field: "eos_token_id".to_owned(),
            expected: format!("{end}, the tokenizer's end of a text, or 2"),
            actual: eos.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Fails if a tokenizer knows ids that its encoder has no embedding for.
fn expect_rows(folder: &Folder, largest_id: u32, rows: usize) -> Result<()> {
    if (largest_id as usize) < rows {
        return Ok(());
    }
    Err(Error::Format {
        path: folder.path().to_owned(),
        reason: format!(
            "expected token ids below {rows}, the encoder's vocab_size, found {largest_id}; \
             tokenizer and text encoder are of different models"
        ),
    })
}

/// The length in `tokenizer_config.json`, if it says one that means something.
fn tokenizer_length(folder: &Folder) -> Result<Option<usize>> {
    let Some(file) = folder.file("tokenizer_config.json") else { return Ok(None) };
    let config: TokenizerConfig = parse(&file)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "only values from 1 to a million are cast"
    )]
    let length = |length: f64| (length <= 1e6).then_some(length as usize);
    if let Some(actual) = config.model_max_length.filter(|length| *length < 1.0) {
        return Err(Error::Config {
            path: file.path().to_owned(),
            field: "model_max_length".to_owned(),
            expected: "a number from 1".to_owned(),
            actual: actual.to_string(),
        });
    }
    Ok(config.model_max_length.and_then(length))
}

fn example_prompt(elastic: Option<&File>) -> Result<String> {
    let named = match elastic {
        Some(file) => parse::<Elastic>(file)?.example_prompt,
        None => None,
    };
    Ok(named.unwrap_or_else(|| EXAMPLE_PROMPT.to_owned()))
}

/// What a JSON file says.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(file: &File) -> Result<T> {
    serde_json::from_str(&file.text_up_to(MOST_JSON)?).map_err(|error| Error::Format {
        path: file.path().to_owned(),
        reason: format!("expected JSON: {}", json_error(&error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::offload::Residency;
    use crate::pipeline::DeviceChoice;
    use crate::pipeline::Engine;
    use crate::pipeline::Request;
    use crate::pipeline::RgbImage;

    fn draw(residency: Residency) -> RgbImage {
        let builder = Engine::builder().device(DeviceChoice::Cpu);
        let mut engine = builder.build().unwrap();
        let configs = engine.files.configs().unwrap();
        let plans = [engine.modes[0].plan.blocks.clone()];
        let placement = Placement { residency, ..WeightDtype::F32.into() };
        engine.components = Components::load(&engine.files, configs, &plans, &placement).unwrap();
        let prompt = Some("a red apple".to_owned());
        let request = Request { prompt, seed: 42, steps: Some(12), ..Request::default() };
        engine.generate(&request).unwrap().image
    }

    #[test]
    fn a_picture_is_the_same_wherever_weights_wait() {
        let plain = draw(Residency::default());
        let away = Residency { modulation_offloaded: 13, t5_offloaded: 1, t5_fp8: false };
        assert!(draw(away) == plain, "offloaded weights are the same weights");
        let fp8 = draw(Residency { t5_fp8: true, ..Residency::default() });
        let pairs = fp8.data.iter().zip(&plain.data);
        let error: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        let psnr = 10.0 * (255.0 * 255.0 * plain.data.len() as f64 / error).log10();
        println!("T5 in e4m3: {psnr:.1} dB");
        assert!((25.0..60.0).contains(&psnr), "{psnr} dB");
    }
}
