//! `flux-rt run`: prompts to pictures.

use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::Result;

use crate::cli;
use crate::cli::args::RunArgs;
use crate::cli::from::Repeat;
use crate::cli::interrupt;
use crate::cli::job;
use crate::cli::job::Job;
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::record::Record;
use crate::cli::stream;
use crate::device::Tensor;
use crate::error::Error;
use crate::pipeline::Engine;
use crate::pipeline::Generated;
use crate::pipeline::Request;
use crate::pipeline::Settings;
use crate::pipeline::latents;

/// Makes every picture asked for.
///
/// # Errors
/// Whatever stops it; the pictures finished before stay, and are in the `--json` document.
pub(super) fn execute(args: RunArgs) -> Result<ExitCode> {
    let style = args.output.progress;
    let job = Job::new(args)?;
    let requests = job.requests();
    interrupt::install()?;
    let progress = Progress::new(style, requests.len());

    progress.loading(&job.source.model);
    let built = build(&job);
    progress.clear();
    let engine = built?;
    progress.loaded(&engine.device_name(), engine.load_ms());
    for note in engine.notes() {
        stream::note(&note);
    }
    if job.prompts.is_empty() {
        let prompt = &engine.defaults().prompt;
        stream::note(&format!("no --prompt, so the model's example: \"{prompt}\""));
    }

    for request in &requests {
        // What the model cannot do is said once, before the first picture.
        job.in_context(Settings::new(request, engine.defaults()))?;
    }

    let record = Record::new(&job, &engine, requests.len());
    let mut run = Run { job, engine, progress, record, latents: Vec::new() };
    interrupt::working();
    let outcome = run.all(&requests);
    run.progress.clear();
    run.finish(outcome)
}

fn build(job: &Job) -> Result<Engine> {
    let builder = job::builder(job.source.clone(), &job.compute);
    let t5_e4m3 = job.from.as_ref().is_some_and(Repeat::t5_e4m3);
    let builder = builder.mode(job.mode.clone()).t5_e4m3(t5_e4m3);
    job.in_context(builder.expecting(job.template.clone()).build())
}

/// A run at work.
struct Run {
    job: Job,
    engine: Engine,
    progress: Progress,
    record: Record,
    /// Final packed latents of the finished pictures, kept if they are to be saved.
    latents: Vec<Tensor<f32, 2>>,
}

impl Run {
    fn all(&mut self, requests: &[Request]) -> Result<()> {
        let several = requests.len() > 1;
        for (index, request) in requests.iter().enumerate() {
            if interrupt::asked() {
                return Err(Error::Cancelled.into());
            }
            let picture = self.picture(request);
            if several {
                picture.with_context(|| format!("picture {} of {}", index + 1, requests.len()))?;
            } else {
                picture?;
            }
        }
        Ok(())
    }

    fn picture(&mut self, request: &Request) -> Result<()> {
        let default = &self.engine.defaults().prompt;
        let prompt = request.prompt.as_ref().unwrap_or(default);
        self.progress.picture(prompt, request.seed);
        let progress = &mut self.progress;
        let mut made = self.engine.generate_with(request, &mut |event| {
            progress.event(event);
            interrupt::flow()
        })?;
        if self.job.save_latents.is_some() {
            let latents = std::mem::replace(&mut made.latents, Tensor::zeros([0, 0]));
            self.latents.push(latents);
        }
        self.keep(&made)
    }

    /// Writes a finished picture and tells where it is.
    fn keep(&mut self, made: &Generated) -> Result<()> {
        let settings = &made.settings;
        self.progress.hashing();
        let (model, latents_file) = (&self.job.source.model, self.job.latents_file.as_deref());
        let metadata = self.engine.metadata(model, latents_file, made)?;
        if let Some(from) = &mut self.job.from
            && self.record.pictures.is_empty()
        {
            self.progress.clear();
            from.note_differences(&metadata)?;
        }
        let png = metadata.encode(&made.image)?;
        let path = self.job.destination.save(&settings.prompt, settings.seed, &png)?;
        self.progress.saved(&path, settings.seed, settings.steps, &made.timings);
        if let Some(log) = &made.cache {
            self.progress.cache(log);
        }
        made.notes().iter().for_each(|note| stream::note(note));
        if !self.job.json {
            stream::result(&format!("{}\n", path.display()))?;
        }
        self.record.add(&self.job, path, made);
        Ok(())
    }

    /// Saves the latents, prints the document and says how it ended.
    fn finish(mut self, outcome: Result<()>) -> Result<ExitCode> {
        let saved = self.save_latents();
        let outcome = outcome.and(saved);
        let interrupted = outcome.as_ref().is_err_and(cli::is_cancelled);
        if let Err(error) = &outcome {
            self.record.status = if interrupted { "interrupted" } else { "failed" };
            self.record.error = (!interrupted).then(|| cli::describe(error));
        }
        if let Some(from) = &mut self.job.from {
            self.record.notes.splice(0..0, from.notes.drain(..));
        }
        if self.job.json {
            stream::document(&serde_json::to_value(&self.record)?)?;
        }
        let (done, asked) = (self.record.pictures.len(), self.record.pictures_asked);
        let last = self.record.pictures.last();
        let folder = last.and_then(|picture| picture.path.parent()).map(|path| match path {
            empty if empty.as_os_str().is_empty() => ", in this folder".to_owned(),
            folder => format!(", in {}", folder.display()),
        });
        let folder = folder.unwrap_or_default();
        match outcome {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(_) if interrupted => {
                let text = format!("interrupted: {done} of {asked} pictures finished{folder}");
                stream::note(&text);
                Ok(ExitCode::from(Error::Cancelled.exit_code()))
            }
            Err(error) => {
                if done > 0 {
                    stream::note(&format!("{done} of {asked} pictures finished{folder}"));
                }
                Err(error)
            }
        }
    }

    fn save_latents(&mut self) -> Result<()> {
        let Some(path) = self.job.save_latents.clone() else { return Ok(()) };
        if self.latents.is_empty() {
            return Ok(());
        }
        output::make_folder(output::folder_of(&path))?;
        latents::write(&path, &self.latents)?;
        self.record.save_latents = Some(path);
        Ok(())
    }
}
