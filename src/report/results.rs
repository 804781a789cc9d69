//! The document of a comparison: `results.json`, from which every other output is made and with which
//! `--resume` goes on.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::cache::CacheLog;
use crate::cache::CacheRecord;
use crate::report::recommendation::Recommendation;
use crate::report::recommendation::recommend;

/// Raised when a field changes its meaning or goes; new fields may come at any time.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The name of a configuration's cache where there is none.
pub(crate) const NO_CACHE: &str = "none";

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) schema_version: u32,
    pub(crate) program: String,
    pub(crate) version: String,
    /// `complete`, `interrupted`, or `failed` where a configuration did.
    pub(crate) status: String,
    /// What decides the pictures, alike for all configurations.
    pub(crate) setup: Setup,
    /// Name of the configuration against which quality is measured.
    pub(crate) reference: String,
    /// Milliseconds of loading.
    pub(crate) load_ms: f64,
    pub(crate) notes: Vec<String>,
    pub(crate) configurations: Vec<Compared>,
    /// What `--quality-floor` found, one a mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) floors: Vec<Floor>,
    /// Which of them to take; null while fewer than two have pictures.
    #[serde(default)]
    pub(crate) recommendation: Option<Recommendation>,
}

/// What decides the pictures, alike for all configurations. A comparison is gone on with under the same
/// alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) model: String,
    /// SHA-256 of every weight file.
    pub(crate) weights: BTreeMap<String, String>,
    pub(crate) device: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tier: Option<String>,
    pub(crate) dtype: String,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) steps: usize,
    pub(crate) guidance: Option<f32>,
    pub(crate) max_sequence_length: usize,
    pub(crate) vae_tiling: bool,
    pub(crate) rng: String,
    pub(crate) rng_grid: Option<u32>,
    /// Of the first prompt; the next has the next.
    pub(crate) seed: u64,
    pub(crate) prompts: Vec<String>,
    pub(crate) prompt_2: Option<String>,
}

/// A configuration and its pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) mode: String,
    pub(crate) cache: String,
    /// What went wrong, if something did.
    pub(crate) error: Option<String>,
    /// What the mode computes, as in a plan file, where it is not what is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<serde_json::Value>,
    /// Parts of the mode that ran in the pipeline's dtype for want of kernels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lowered: Vec<String>,
    /// The most memory at one time while its pictures were made: of the GPU, else of the process.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// In the order of the prompts; missing ones were not made.
    pub(crate) pictures: Vec<Picture>,
    /// Means over the pictures; null until there is one.
    pub(crate) mean: Option<Means>,
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Picture {
    /// Which prompt, from 0.
    pub(crate) prompt: usize,
    pub(crate) seed: u64,
    /// In the folder of the results.
    pub(crate) file: String,
    /// Of the file, 64 hex digits: `--resume` makes anew what is not it any more.
    pub(crate) sha256: String,
    /// Of the file of the final latents, which the reference's pictures have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latents_sha256: Option<String>,
    pub(crate) encode_ms: f64,
    pub(crate) prepare_ms: f64,
    pub(crate) denoise_ms: f64,
    pub(crate) decode_ms: f64,
    /// Prompt to pixels.
    pub(crate) total_ms: f64,
    /// Null without a cache.
    pub(crate) hits: Option<Hits>,
    /// Options and decisions of the cache; null without one.
    pub(crate) cache: Option<CacheRecord>,
    /// Against the reference's picture; null for the reference itself.
    pub(crate) quality: Option<Quality>,
}

/// The search for the largest thresholds of a cache with which every picture of a mode stays near that
/// without a cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Floor {
    pub(crate) mode: String,
    /// The least PSNR allowed against the same mode without a cache, in dB.
    pub(crate) floor_db: f64,
    /// The flags of `flux-rt run` that set the cache found; null if no thresholds kept above the floor.
    pub(crate) flags: Option<String>,
    /// The configuration with that cache.
    pub(crate) configuration: Option<String>,
    /// In the order in which they were tried.
    pub(crate) tried: Vec<Tried>,
}

/// Thresholds that were tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tried {
    /// Of the double blocks.
    pub(crate) double: f64,
    /// Of the single blocks.
    pub(crate) single: f64,
    /// Of the worst picture, in dB; where it is below the floor, of the first such picture.
    pub(crate) psnr: f64,
}

/// How often a cache was hit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hits {
    /// Hits by comparisons, over all block lists; null if nothing was compared.
    pub(crate) per_compared: Option<f64>,
    /// Hits by steps, over all block lists.
    pub(crate) per_step: f64,
    /// The caching tutorial's rate, which counts single blocks twice.
    pub(crate) tutorial: Option<f64>,
}

/// How near a picture is to the reference's. What could not be computed is null, and `why` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quality {
    /// dB; 100 for the same pixels.
    pub(crate) psnr: Option<f64>,
    pub(crate) ssim: Option<f64>,
    pub(crate) ssimulacra2: Option<f64>,
    /// Relative L2 of the final latents.
    pub(crate) latents_error: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) why: Vec<String>,
}

/// Means over pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Means {
    pub(crate) total_ms: f64,
    /// By the mean of the same mode without a cache, over the prompts that both have; null without one.
    pub(crate) speedup: Option<f64>,
    pub(crate) hits: Option<Hits>,
    pub(crate) quality: Option<Quality>,
}

impl Hits {
    pub(crate) fn of(log: &CacheLog) -> Self {
        Self {
            per_compared: log.hits_per_compared(),
            per_step: log.hits_per_step(),
            tutorial: log.tutorial_rate(),
        }
    }
}

/// The mean of what there is; none of nothing.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

impl Results {
    /// Computes the means anew, and what they recommend.
    pub(crate) fn average(&mut self) {
        let plain: Vec<(String, Vec<(usize, f64)>)> = self
            .configurations
            .iter()
            .filter(|compared| !compared.is_cached())
            .map(|compared| (compared.mode.clone(), compared.times()))
            .collect();
        for compared in &mut self.configurations {
            let plain = plain.iter().find(|(mode, _)| *mode == compared.mode);
            compared.mean = compared.means(plain.map(|(_, times)| times.as_slice()));
        }
        self.recommendation = recommend(self);
    }
}

impl Results {
    /// The configuration of that name.
    pub(crate) fn of_mut(&mut self, name: &str) -> Option<&mut Compared> {
        self.configurations.iter_mut().find(|compared| compared.name == name)
    }

    /// A mode without a cache.
    pub(crate) fn plain(&self, mode: &str) -> Option<&Compared> {
        self.configurations.iter().find(|compared| compared.mode == mode && !compared.is_cached())
    }
}

/// What a mode with a cache is called: `XL, none`.
pub(crate) fn name(mode: &str, cache: &str) -> String {
    format!("{mode}, {cache}")
}

impl Compared {
    /// One without pictures yet.
    pub(crate) fn new(mode: &str, cache: &str) -> Self {
        Self {
            name: name(mode, cache),
            mode: mode.to_owned(),
            cache: cache.to_owned(),
            error: None,
            plan: None,
            lowered: Vec::new(),
            peak_memory_bytes: None,
            pictures: Vec::new(),
            mean: None,
        }
    }

    /// Whether it has a cache.
    pub(crate) fn is_cached(&self) -> bool {
        self.cache != NO_CACHE
    }

    /// The picture of a prompt.
    pub(crate) fn picture(&self, prompt: usize) -> Option<&Picture> {
        self.pictures.iter().find(|picture| picture.prompt == prompt)
    }

    fn times(&self) -> Vec<(usize, f64)> {
        self.pictures.iter().map(|picture| (picture.prompt, picture.total_ms)).collect()
    }

    fn means(&self, plain: Option<&[(usize, f64)]>) -> Option<Means> {
        let pictures = || self.pictures.iter();
        let pairs: Vec<(f64, f64)> = pictures()
            .filter_map(|picture| {
                let plain = plain?.iter().find(|(prompt, _)| *prompt == picture.prompt)?;
                Some((plain.1, picture.total_ms))
            })
            .collect();
        let [plain, own] =
            [pairs.iter().map(|pair| pair.0).sum(), pairs.iter().map(|pair| pair.1).sum::<f64>()];
        let hits = || pictures().filter_map(|picture| picture.hits);
        let qualities = || pictures().filter_map(|picture| picture.quality.as_ref());
        Some(Means {
            total_ms: mean(pictures().map(|picture| picture.total_ms))?,
            speedup: (own > 0.0).then(|| plain / own),
            hits: mean(hits().map(|hits| hits.per_step)).map(|per_step| Hits {
                per_compared: mean(hits().filter_map(|hits| hits.per_compared)),
                per_step,
                tutorial: mean(hits().filter_map(|hits| hits.tutorial)),
            }),
            quality: (qualities().count() > 0).then(|| Quality {
                psnr: mean(qualities().filter_map(|quality| quality.psnr)),
                ssim: mean(qualities().filter_map(|quality| quality.ssim)),
                ssimulacra2: mean(qualities().filter_map(|quality| quality.ssimulacra2)),
                latents_error: mean(qualities().filter_map(|quality| quality.latents_error)),
                why: Vec::new(),
            }),
        })
    }
}

/// Results without configurations.
#[cfg(test)]
pub(crate) fn blank() -> Results {
    Results {
        schema_version: SCHEMA_VERSION,
        program: "flux-rt".into(),
        version: "0".into(),
        status: "complete".into(),
        setup: Setup {
            model: "demo".into(),
            weights: BTreeMap::new(),
            device: "cpu".into(),
            tier: None,
            dtype: "f32".into(),
            width: 128,
            height: 128,
            steps: 28,
            guidance: Some(3.5),
            max_sequence_length: 64,
            vae_tiling: false,
            rng: "torch-cuda".into(),
            rng_grid: None,
            seed: 42,
            prompts: vec!["a fox".into()],
            prompt_2: None,
        },
        reference: String::new(),
        load_ms: 0.0,
        notes: Vec::new(),
        configurations: Vec::new(),
        floors: Vec::new(),
        recommendation: None,
    }
}

/// A picture of a prompt, without cache and quality.
#[cfg(test)]
pub(crate) fn blank_picture(prompt: usize) -> Picture {
    Picture {
        prompt,
        seed: 42,
        file: String::new(),
        sha256: String::new(),
        latents_sha256: None,
        encode_ms: 1.0,
        prepare_ms: 1.0,
        denoise_ms: 1.0,
        decode_ms: 1.0,
        total_ms: 4.0,
        hits: None,
        cache: None,
        quality: None,
    }
}
