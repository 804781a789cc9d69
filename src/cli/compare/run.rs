//! The comparison at work: configurations one after the other, each picture kept when it is finished.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::Result;

use crate::cli;
use crate::cli::args::ComputeArgs;
use crate::cli::compare::folder::Folder;
use crate::cli::compare::matrix::Configuration;
use crate::cli::compare::memory;
use crate::cli::interrupt;
use crate::cli::job;
use crate::cli::progress::Progress;
use crate::cli::record;
use crate::cli::stream;
use crate::elastic::Mode;
use crate::error::Error;
use crate::model::source::ModelSource;
use crate::pipeline::Engine;
use crate::pipeline::Generated;
use crate::pipeline::Request;
use crate::pipeline::Settings;
use crate::report::quality::Exact;
use crate::report::quality::quality;
use crate::report::results::Compared;
use crate::report::results::Hits;
use crate::report::results::Picture;
use crate::report::results::Results;
use crate::report::results::SCHEMA_VERSION;
use crate::report::results::Setup;
use crate::report::tables;

/// A checked comparison.
pub(super) struct Comparison {
    pub(super) source: ModelSource,
    pub(super) compute: ComputeArgs,
    /// What all pictures have in common; its seed is the first prompt's.
    pub(super) template: Request,
    pub(super) prompts: Vec<String>,
    pub(super) configurations: Vec<Configuration>,
    pub(super) folder: Folder,
    pub(super) progress: Progress,
    pub(super) json: bool,
}

/// What comes of it.
#[derive(Default)]
struct Outcome {
    /// There from the first model on that could be loaded.
    results: Option<Results>,
    /// Of the reference, by prompt.
    exact: Vec<Option<Exact>>,
    /// Modes that could not be loaded.
    unloaded: Vec<(Mode, String)>,
    /// The first configuration that failed.
    failure: Option<anyhow::Error>,
}

impl Comparison {
    /// Everything: pictures, documents, and the summary on stdout.
    ///
    /// # Errors
    /// Whatever stops it, and the first failure of a configuration, when the rest is done.
    pub(super) fn run(mut self) -> Result<ExitCode> {
        let mut outcome = Outcome::default();
        let stopped = self.all(&mut outcome);
        self.progress.clear();
        let interrupted = stopped.as_ref().is_err_and(cli::is_cancelled);
        if let Some(results) = &mut outcome.results {
            let failed = stopped.is_err() || outcome.failure.is_some();
            results.status = match (interrupted, failed) {
                (true, _) => "interrupted".into(),
                (false, true) => "failed".into(),
                (false, false) => "complete".into(),
            };
            self.folder.keep(results)?;
            match self.json {
                true => stream::document(&serde_json::to_value(&*results)?)?,
                false => stream::result(&tables::summary(results))?,
            }
        }
        if interrupted {
            let folder = self.folder.path().display();
            stream::note(&format!("interrupted; --resume goes on with {folder}"));
            return Ok(ExitCode::from(Error::Cancelled.exit_code()));
        }
        stopped?;
        outcome.failure.map_or(Ok(ExitCode::SUCCESS), Err)
    }

    /// Loads all modes at once, or one after the other where that does not work, and draws with each load
    /// what it can.
    fn all(&mut self, outcome: &mut Outcome) -> Result<()> {
        let mut modes: Vec<Mode> = Vec::new();
        for configuration in &self.configurations {
            if !modes.contains(&configuration.mode) {
                modes.push(configuration.mode.clone());
            }
        }
        let mut groups = vec![modes];
        while !groups.is_empty() {
            let group = groups.remove(0);
            self.progress.loading(&self.source.model);
            let built = self.build(&group);
            self.progress.clear();
            match (built, group.as_slice()) {
                (Ok(engine), _) => self.group(engine, &group, outcome)?,
                (Err(error), [mode]) => {
                    let said = cli::describe(&error);
                    stream::note(&format!("mode {mode} failed: {said}"));
                    outcome.unloaded.push((mode.clone(), said));
                    outcome.failure.get_or_insert(error);
                }
                (Err(_), several) => {
                    groups = several.iter().map(|mode| vec![mode.clone()]).collect()
                }
            }
        }
        let Some(results) = &mut outcome.results else {
            return outcome.failure.take().map_or(Ok(()), Err);
        };
        for (mode, said) in &outcome.unloaded {
            let of_mode =
                results.configurations.iter_mut().filter(|of| of.mode == mode.to_string());
            of_mode.for_each(|compared| compared.error = Some(said.clone()));
        }
        Ok(())
    }

    fn build(&self, modes: &[Mode]) -> Result<Engine> {
        let first = modes.first().cloned().unwrap_or_default();
        let builder = job::builder(self.source.clone(), &self.compute).mode(first);
        let engine =
            builder.more_modes(modes.iter().skip(1).cloned()).expecting(self.template.clone());
        Ok(engine.build()?)
    }

    /// The configurations of some modes, the reference first.
    fn group(&mut self, mut engine: Engine, modes: &[Mode], outcome: &mut Outcome) -> Result<()> {
        self.progress.loaded(&engine.device_name(), engine.load_ms());
        if outcome.results.is_none() {
            outcome.results = Some(self.start(&mut engine)?);
            outcome.exact = self.prompts.iter().map(|_| None).collect();
        }
        interrupt::working();
        let reference = self.reference();
        let mut order: Vec<usize> = (0..self.configurations.len())
            .filter(|&index| modes.contains(&self.configurations[index].mode))
            .collect();
        order.sort_by_key(|&index| (index != reference, index));
        for index in order {
            let drawn = self.configuration(&mut engine, index, outcome);
            let Err(error) = drawn else { continue };
            if cli::is_cancelled(&error) || cli::is_write(&error) {
                return Err(error);
            }
            let name = self.configurations[index].name();
            let said = cli::describe(&error);
            self.progress.clear();
            stream::note(&format!("{name} failed: {said}"));
            if let Some(results) = &mut outcome.results {
                results.configurations[index].error = Some(said);
                self.folder.keep(results)?;
            }
            outcome.failure.get_or_insert(error.context(name));
        }
        Ok(())
    }

    /// Which configuration the others are compared with: the first mode without a cache, else the first.
    fn reference(&self) -> usize {
        let first = self.configurations.first().map(|first| &first.mode);
        let plain = |configuration: &Configuration| {
            Some(&configuration.mode) == first && configuration.options.is_none()
        };
        self.configurations.iter().position(plain).unwrap_or(0)
    }

    /// What the folder holds of this comparison, or the start of a new one.
    fn start(&self, engine: &mut Engine) -> Result<Results> {
        let setup = self.setup(engine)?;
        let blank = |configuration: &Configuration| {
            Compared::new(&configuration.mode.to_string(), &configuration.cache)
        };
        let mut results = Results {
            schema_version: SCHEMA_VERSION,
            program: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            status: "interrupted".into(),
            setup,
            reference: self.configurations[self.reference()].name(),
            load_ms: engine.load_ms(),
            notes: Vec::new(),
            configurations: self.configurations.iter().map(blank).collect(),
            recommendation: None,
        };
        self.folder.resume(&mut results)?;
        Ok(results)
    }

    fn setup(&self, engine: &mut Engine) -> Result<Setup> {
        let settings = Settings::new(&self.template, engine.defaults())?;
        let (rng, rng_grid) = record::noise(None, settings.rng);
        let weights: BTreeMap<String, String> = engine.weight_digests()?.iter().cloned().collect();
        Ok(Setup {
            model: self.source.model.clone(),
            weights,
            device: engine.device_name(),
            tier: engine.tier().map(str::to_owned),
            dtype: engine.dtype().to_string(),
            width: settings.width,
            height: settings.height,
            steps: settings.steps,
            guidance: settings.guidance,
            max_sequence_length: settings.max_sequence_length,
            vae_tiling: settings.vae_tiling,
            rng,
            rng_grid,
            seed: self.template.seed,
            prompts: self.prompts.clone(),
            prompt_2: self.template.prompt_2.clone(),
        })
    }

    /// Draws what is missing of one configuration.
    fn configuration(
        &mut self,
        engine: &mut Engine,
        index: usize,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let Outcome { results: Some(results), exact, .. } = outcome else { return Ok(()) };
        let Configuration { mode, options, .. } = self.configurations[index].clone();
        let name = self.configurations[index].name();
        let is_reference = name == results.reference;
        engine.use_mode(&mode)?;
        for note in engine.notes() {
            if !results.notes.contains(&note) {
                stream::note(&note);
                results.notes.push(note);
            }
        }
        if is_reference {
            self.folder.load_exact(&results.configurations[index], exact);
        }
        let compared = &mut results.configurations[index];
        compared.error = None;
        compared.lowered = engine.lowered().iter().map(|&part| part.to_owned()).collect();
        let there = |prompt: usize| {
            let kept = compared.pictures.iter().any(|picture| picture.prompt == prompt);
            kept && (!is_reference || exact[prompt].is_some())
        };
        let missing: Vec<usize> =
            (0..self.prompts.len()).filter(|&prompt| !there(prompt)).collect();
        self.progress.skip(self.prompts.len() - missing.len());
        if missing.is_empty() {
            self.progress.skip(1);
            return Ok(());
        }
        self.draw(engine, &name, 0, options.clone(), true)?;
        memory::reset_peak(engine);
        for prompt in missing {
            let made = self.draw(engine, &name, prompt, options.clone(), false)?;
            let file = self.configurations[index].picture(prompt, &self.prompts[prompt]);
            let png = record::png(&self.source.model, None, engine, &made)?;
            let path: PathBuf = self.folder.write(&file, &png)?;
            let settings = &made.settings;
            self.progress.saved(&path, settings.seed, settings.steps, &made.timings);
            let timings = &made.timings;
            let picture = Picture {
                prompt,
                seed: settings.seed,
                file,
                encode_ms: timings.encode_ms,
                prepare_ms: timings.prepare_ms,
                denoise_ms: timings.denoise_ms,
                decode_ms: timings.decode_ms,
                total_ms: timings.total_ms(),
                hits: made.cache.as_ref().map(Hits::of),
                cache: made.cache_record(),
                quality: match (&exact[prompt], is_reference) {
                    (Some(exact), false) => Some(quality(&made.image, &made.latents, exact)),
                    _ => None,
                },
            };
            let compared = &mut results.configurations[index];
            compared.pictures.retain(|other| other.prompt != prompt);
            compared.pictures.push(picture);
            compared.pictures.sort_by_key(|picture| picture.prompt);
            compared.peak_memory_bytes = memory::peak(engine).max(compared.peak_memory_bytes);
            if is_reference {
                let Generated { image, latents, .. } = made;
                exact[prompt] = Some(Exact { image, latents });
            }
            results.average();
            self.folder.keep(results)?;
        }
        if is_reference {
            self.folder.keep_latents(exact)?;
        }
        Ok(())
    }

    fn draw(
        &mut self,
        engine: &mut Engine,
        name: &str,
        prompt: usize,
        cache: Option<crate::cache::CacheOptions>,
        warmup: bool,
    ) -> Result<Generated> {
        if interrupt::asked() {
            return Err(Error::Cancelled.into());
        }
        let text = self.prompts[prompt].clone();
        let offset = u64::try_from(prompt).unwrap_or_default();
        let seed = self.template.seed + offset;
        let request = Request { prompt: Some(text.clone()), seed, cache, ..self.template.clone() };
        let label = if warmup { format!("{name}, warm-up") } else { name.to_owned() };
        self.progress.label(label);
        self.progress.picture(&text, seed);
        // A prompt of the configuration before would cost nothing.
        engine.forget_prompts();
        let progress = &mut self.progress;
        let made = engine.generate_with(&request, &mut |event| {
            progress.event(event);
            interrupt::flow()
        });
        made.with_context(|| format!("prompt {} of {}", prompt + 1, self.prompts.len()))
    }
}
