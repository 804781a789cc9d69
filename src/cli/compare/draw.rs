//! Drawing a configuration: a picture to warm up, then every prompt, each kept when it is finished.

use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

use crate::cache::CacheOptions;
use crate::cache::CacheRecord;
use crate::cli::compare::matrix::Configuration;
use crate::cli::compare::memory;
use crate::cli::compare::run::Comparison;
use crate::cli::compare::run::Outcome;
use crate::cli::interrupt;
use crate::cli::stream;
use crate::error::Error;
use crate::model::source::sha256;
use crate::pipeline::Engine;
use crate::pipeline::Generated;
use crate::pipeline::Request;
use crate::report::quality::Exact;
use crate::report::quality::quality;
use crate::report::results::Compared;
use crate::report::results::Hits;
use crate::report::results::Picture;

impl Comparison {
    /// Draws what is missing of one configuration.
    ///
    /// # Errors
    /// Whatever stops it; [`Error::Request`] when the folder holds pictures of another plan or cache.
    pub(super) fn configuration(
        &mut self,
        engine: &mut Engine,
        configuration: &Configuration,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let Outcome { results: Some(results), exact, .. } = outcome else { return Ok(()) };
        let name = configuration.name();
        let is_reference = name == results.reference;
        engine.use_mode(&configuration.mode)?;
        for note in engine.notes() {
            if !results.notes.contains(&note) {
                stream::note(&note);
                results.notes.push(note);
            }
        }
        let Some(compared) = results.of_mut(&name) else { return Ok(()) };
        check_kept(compared, configuration, engine)?;
        compared.error = None;
        compared.plan = engine.own_plan();
        compared.lowered = engine.lowered().iter().map(|&part| part.to_owned()).collect();
        if is_reference {
            self.folder.load_exact(compared, exact);
        }
        let there = |prompt: usize| {
            compared.picture(prompt).is_some() && (!is_reference || exact[prompt].is_some())
        };
        let missing: Vec<usize> =
            (0..self.prompts.len()).filter(|&prompt| !there(prompt)).collect();
        self.progress.skip(self.prompts.len() - missing.len());
        if missing.is_empty() {
            self.progress.skip(1);
            return Ok(());
        }
        let options = configuration.options.as_ref();
        self.draw(engine, format!("{name}, warm-up"), 0, options)?;
        memory::reset_peak(engine);
        for prompt in missing {
            let made = self.draw(engine, name.clone(), prompt, options)?;
            for note in made.notes() {
                let note = format!("prompt {}: {note}", prompt + 1);
                if !results.notes.contains(&note) {
                    stream::note(&note);
                    results.notes.push(note);
                }
            }
            let exact = &mut exact[prompt];
            let mut picture = self.keep(engine, configuration, prompt, &made)?;
            if is_reference {
                let digest = self.folder.keep_latents(&picture.file, &made.latents)?;
                picture.latents_sha256 = Some(digest);
            }
            let quality = match exact {
                Some(exact) if !is_reference => Some(quality(&made.image, &made.latents, exact)),
                _ => None,
            };
            let Some(compared) = results.of_mut(&name) else { return Ok(()) };
            compared.pictures.retain(|other| other.prompt != prompt);
            compared.pictures.push(Picture { quality, ..picture });
            compared.pictures.sort_by_key(|picture| picture.prompt);
            compared.peak_memory_bytes = memory::peak(engine).max(compared.peak_memory_bytes);
            if is_reference {
                let Generated { image, latents, .. } = made;
                *exact = Some(Exact { image, latents });
            }
            results.average();
            self.folder.keep(results)?;
        }
        Ok(())
    }

    /// Writes a picture to its file.
    fn keep(
        &mut self,
        engine: &mut Engine,
        configuration: &Configuration,
        prompt: usize,
        made: &Generated,
    ) -> Result<Picture> {
        let file = configuration.picture(prompt, &self.prompts[prompt]);
        let png = engine.metadata(&self.source.model, None, made)?.encode(&made.image)?;
        let path: PathBuf = self.folder.write(&file, &png)?;
        let (settings, timings) = (&made.settings, &made.timings);
        self.progress.saved(&path, settings.seed, settings.steps, timings);
        Ok(Picture {
            prompt,
            seed: settings.seed,
            file,
            sha256: sha256(&png),
            latents_sha256: None,
            encode_ms: timings.encode_ms,
            prepare_ms: timings.prepare_ms,
            denoise_ms: timings.denoise_ms,
            decode_ms: timings.decode_ms,
            total_ms: timings.total_ms(),
            hits: made.cache.as_ref().map(Hits::of),
            cache: made.cache_record(),
            quality: None,
        })
    }

    /// Draws a prompt with the engine's mode; `label` says what for.
    ///
    /// # Errors
    /// Those of the engine; [`Error::Cancelled`].
    pub(super) fn draw(
        &mut self,
        engine: &mut Engine,
        label: String,
        prompt: usize,
        cache: Option<&CacheOptions>,
    ) -> Result<Generated> {
        if interrupt::asked() {
            return Err(Error::Cancelled.into());
        }
        let text = self.prompts[prompt].clone();
        let offset = u64::try_from(prompt).unwrap_or_default();
        let seed = self.template.seed + offset;
        let cache = cache.cloned();
        let request = Request { prompt: Some(text.clone()), seed, cache, ..self.template.clone() };
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

/// Refuses to mix pictures that the folder holds with those of another plan or cache.
fn check_kept(compared: &Compared, configuration: &Configuration, engine: &Engine) -> Result<()> {
    let is_same = |kept: &Option<CacheRecord>| match (kept, &configuration.options) {
        (Some(kept), Some(options)) => kept.is_of(options),
        (None, None) => true,
        _ => false,
    };
    let what = match compared.pictures.iter().all(|picture| is_same(&picture.cache)) {
        false => format!("options of cache {}", configuration.cache),
        true if !compared.pictures.is_empty() && compared.plan != engine.own_plan() => {
            format!("plan of mode {}", configuration.mode)
        }
        true => return Ok(()),
    };
    let reason = format!(
        "expected the {what} that the comparison there has, found another; take --overwrite or another --out"
    );
    Err(Error::Request { field: "resume", reason }.into())
}
