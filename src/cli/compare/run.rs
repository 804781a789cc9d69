//! The comparison at work: configurations one after the other, each picture kept when it is finished.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;

use crate::cli;
use crate::cli::args::ComputeArgs;
use crate::cli::compare::floor;
use crate::cli::compare::folder::Folder;
use crate::cli::compare::matrix::Configuration;
use crate::cli::compare::outputs;
use crate::cli::interrupt;
use crate::cli::job;
use crate::cli::progress::Progress;
use crate::cli::stream;
use crate::elastic::Mode;
use crate::error::Error;
use crate::model::source::ModelSource;
use crate::pipeline::Engine;
use crate::pipeline::Request;
use crate::pipeline::Settings;
use crate::pipeline::metadata;
use crate::report::quality::Exact;
use crate::report::results::Compared;
use crate::report::results::Results;
use crate::report::results::SCHEMA_VERSION;
use crate::report::results::Setup;
use crate::report::tables;

/// A checked comparison.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) source: ModelSource,
    pub(super) compute: ComputeArgs,
    /// What all pictures have in common; its seed is the first prompt's.
    pub(super) template: Request,
    pub(super) prompts: Vec<String>,
    pub(super) configurations: Vec<Configuration>,
    /// Searches the thresholds that keep every picture's PSNR, in dB, above it.
    pub(super) floor: Option<f64>,
    pub(super) folder: Folder,
    pub(super) progress: Progress,
    pub(super) json: bool,
}

/// What comes of it.
#[derive(Default)]
pub(super) struct Outcome {
    /// There from the first model on that could be loaded.
    pub(super) results: Option<Results>,
    /// Of the reference, by prompt.
    pub(super) exact: Vec<Option<Exact>>,
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
        let mut stopped = self.all(&mut outcome);
        self.progress.clear();
        let is_cut = |stopped: &Result<()>| stopped.as_ref().is_err_and(cli::is_cancelled);
        if let Some(results) = &mut outcome.results {
            let failed = stopped.is_err() || outcome.failure.is_some();
            results.status = match (is_cut(&stopped), failed) {
                (true, _) => "interrupted".into(),
                (false, true) => "failed".into(),
                (false, false) => "complete".into(),
            };
            self.folder.keep(results)?;
            if !is_cut(&stopped) && results.configurations.iter().any(|of| !of.pictures.is_empty())
            {
                self.progress.reporting();
                let made = outputs::write(&self.folder, results);
                self.progress.clear();
                if made.is_ok() {
                    let report = self.folder.path().join(outputs::REPORT);
                    stream::note(&format!("all of it is in {}", report.display()));
                }
                stopped = stopped.and(made);
            }
            match self.json {
                true => stream::document(&serde_json::to_value(&*results)?)?,
                false => stream::result(&tables::summary(results))?,
            }
        }
        let interrupted = is_cut(&stopped);
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
            let configuration = self.configurations[index].clone();
            let drawn = self.configuration(&mut engine, &configuration, outcome);
            self.survive(drawn, &configuration.name(), outcome)?;
        }
        if let Some(floor) = self.floor {
            for mode in modes {
                let found = self.keep_floor(&mut engine, mode, floor, outcome);
                self.survive(found, &floor::name(mode, floor), outcome)?;
            }
        }
        Ok(())
    }

    /// Keeps what went wrong with a configuration, so that the rest goes on.
    ///
    /// # Errors
    /// Of Ctrl-C and of writing: nothing goes on after those.
    fn survive(&mut self, drawn: Result<()>, name: &str, outcome: &mut Outcome) -> Result<()> {
        let Err(error) = drawn else { return Ok(()) };
        if cli::is_cancelled(&error) || cli::is_write(&error) {
            return Err(error);
        }
        let said = cli::describe(&error);
        self.progress.clear();
        stream::note(&format!("{name} failed: {said}"));
        if let Some(results) = &mut outcome.results {
            if let Some(compared) = results.of_mut(name) {
                compared.error = Some(said);
            }
            self.folder.keep(results)?;
        }
        outcome.failure.get_or_insert(error.context(name.to_owned()));
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
            floors: Vec::new(),
            recommendation: None,
        };
        self.folder.clear();
        self.folder.resume(&mut results)?;
        Ok(results)
    }

    fn setup(&self, engine: &mut Engine) -> Result<Setup> {
        let settings = Settings::new(&self.template, engine.defaults())?;
        let (rng, rng_grid) = metadata::noise(None, settings.rng);
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
}
