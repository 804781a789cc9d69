//! `flux-rt verify`: a picture made again from its own settings, and compared pixel by pixel.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::cli;
use crate::cli::args::ComputeArgs;
use crate::cli::args::SpeedArgs;
use crate::cli::args::VerifyArgs;
use crate::cli::from::Repeat;
use crate::cli::interrupt;
use crate::cli::job;
use crate::cli::progress::Progress;
use crate::cli::stream;
use crate::elastic::Mode;
use crate::error::Error;
use crate::model::source::ModelSource;
use crate::pipeline::Engine;
use crate::pipeline::Generated;
use crate::pipeline::Request;
use crate::pipeline::RgbImage;

/// Raised when a field changes its meaning or goes; new fields may come at any time.
const SCHEMA_VERSION: u32 = 1;

/// Makes a picture again and compares it.
///
/// # Errors
/// [`Error::Different`] if it came out otherwise; whatever stops it.
pub(super) fn execute(args: VerifyArgs) -> Result<ExitCode> {
    let style = args.output.progress;
    let mut verify = Verify::new(args)?;
    interrupt::install()?;
    let progress = Progress::new(style, 1);
    progress.loading(&verify.source.model);
    let built = verify.build();
    progress.clear();
    let mut engine = built?;
    progress.loaded(&engine.device_name(), engine.load_ms());
    engine.notes().into_iter().for_each(|note| verify.repeat.note(note));
    interrupt::working();
    let outcome = verify.compare(&mut engine, progress);
    verify.finish(&engine, outcome)
}

/// A checked `verify`.
struct Verify {
    picture: PathBuf,
    repeat: Repeat,
    source: ModelSource,
    compute: ComputeArgs,
    mode: Mode,
    request: Request,
    latents_file: Option<PathBuf>,
    min_psnr: Option<f64>,
    json: bool,
}

impl Verify {
    /// Reads the picture and checks what it says.
    fn new(args: VerifyArgs) -> Result<Self> {
        let VerifyArgs { picture, min_psnr, latents, mut speed, mut model, output, given } = args;
        let mut repeat = Repeat::read("picture", &picture, given)?;
        let (mut request, mut prompts) = (Request::default(), Vec::new());
        repeat.fill(&mut request, &mut prompts, &mut speed, &mut model)?;
        request.prompt = prompts.pop();
        request.cache = repeat.cache(None)?;
        repeat.check(&request, &speed)?;
        let said = [request.width, request.height];
        let RgbImage { width, height, .. } = repeat.image;
        if said != [Some(width), Some(height)] {
            let [columns, rows] = said.map(|side| side.unwrap_or(0));
            let reason = format!(
                "expected the {columns} x {rows} pixels of its settings, found {width} x {height}: \
                 another program changed this picture"
            );
            return Err(Error::Format { path: picture, reason }.into());
        }
        if let Some(path) = &latents {
            request.latents = job::initial_latents(path, &mut request, 1)?.pop();
        }
        let SpeedArgs { mode, compute } = speed;
        let (source, json) = (job::source(model), output.json);
        let latents_file = latents;
        Ok(Self { picture, repeat, source, compute, mode, request, latents_file, min_psnr, json })
    }

    fn build(&self) -> Result<Engine> {
        let builder = job::builder(self.source.clone(), &self.compute).mode(self.mode.clone());
        let builder = builder.t5_e4m3(self.repeat.t5_e4m3()).expecting(self.request.clone());
        self.repeat.in_context(builder.build())
    }

    /// Makes the picture and tells what is otherwise than when it was made the first time.
    fn compare(&mut self, engine: &mut Engine, mut progress: Progress) -> Result<Difference> {
        let made = self.generate(engine, &mut progress);
        if made.is_ok() {
            progress.hashing();
        }
        let again = made.and_then(|made| {
            let (model, latents_file) = (&self.source.model, self.latents_file.as_deref());
            Ok((engine.metadata(model, latents_file, &made)?, made.image))
        });
        progress.clear();
        let (metadata, image) = again?;
        self.repeat.note_differences(&metadata)?;
        Ok(Difference::new(&self.repeat.image, &image))
    }

    fn generate(&self, engine: &mut Engine, progress: &mut Progress) -> Result<Generated> {
        progress.picture(self.request.prompt.as_deref().unwrap_or_default(), self.request.seed);
        let made = engine.generate_with(&self.request, &mut |event| {
            progress.event(event);
            interrupt::flow()
        });
        self.repeat.in_context(made)
    }

    /// Prints what came of it.
    fn finish(self, engine: &Engine, outcome: Result<Difference>) -> Result<ExitCode> {
        let interrupted = outcome.as_ref().is_err_and(cli::is_cancelled);
        let verdict = outcome.map(|difference| (self.verdict(&difference), difference));
        let status = match &verdict {
            Ok((Ok(status), _)) => status,
            Ok((Err(_), _)) => "different",
            Err(_) if interrupted => "interrupted",
            Err(_) => "failed",
        };
        if self.json {
            let found = verdict.as_ref().ok().map(|(_, difference)| difference);
            let error = verdict.as_ref().err().filter(|_| !interrupted).map(cli::describe);
            stream::document(&json!({
                "schema_version": SCHEMA_VERSION,
                "program": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
                "status": status,
                "error": error,
                "picture": self.picture.to_string_lossy(),
                "psnr": found.map(|found| found.psnr),
                "min_psnr": self.min_psnr,
                "pixels": found.map(|found| found.pixels),
                "differing_pixels": found.map(|found| found.differing),
                "largest_difference": found.map(|found| found.largest),
                "model": self.source.model,
                "device": engine.device_name(),
                "tier": engine.tier(),
                "dtype": engine.dtype().to_string(),
                "mode": engine.mode().to_string(),
                "notes": self.repeat.notes,
            }))?;
        }
        match verdict {
            Ok((Ok(_), found)) => {
                if !self.json {
                    let path = self.picture.display();
                    stream::result(&format!("{path}: {}\n", found.in_words(self.min_psnr)))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Ok((Err(error), _)) => Err(error.into()),
            Err(_) if interrupted => {
                stream::note("interrupted: nothing was compared");
                Ok(ExitCode::from(Error::Cancelled.exit_code()))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the picture is accepted: `same` or `near`.
    fn verdict(&self, found: &Difference) -> Result<&'static str, Error> {
        let Difference { differing, pixels, largest, psnr } = *found;
        if differing == 0 {
            return Ok("same");
        }
        if self.min_psnr.is_some_and(|least| psnr >= least) {
            return Ok("near");
        }
        let (path, least_psnr) = (self.picture.clone(), self.min_psnr);
        Err(Error::Different { path, differing, pixels, largest, psnr, least_psnr })
    }
}

/// How far two pictures of a size are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Difference {
    /// Pixels that are not the same.
    differing: usize,
    pixels: usize,
    /// Of a value, of 255.
    largest: u8,
    /// In dB; 100 for the same pixels.
    psnr: f64,
}

impl Difference {
    fn new(one: &RgbImage, other: &RgbImage) -> Self {
        let [one_pixels, other_pixels] = [one, other].map(|image| image.data.as_chunks::<3>().0);
        let differing = one_pixels.iter().zip(other_pixels).filter(|(a, b)| a != b).count();
        let largest = one.data.iter().zip(&other.data).map(|(a, b)| a.abs_diff(*b)).max();
        Self {
            differing,
            pixels: one_pixels.len(),
            largest: largest.unwrap_or(0),
            psnr: one.psnr(other),
        }
    }

    fn in_words(&self, min_psnr: Option<f64>) -> String {
        let Self { differing, pixels, largest, psnr } = self;
        if *differing == 0 {
            return format!("the same, all {pixels} pixels");
        }
        let least = min_psnr.unwrap_or(0.0);
        format!(
            "near enough, PSNR {psnr:.2} dB of at least {least}: {differing} of {pixels} pixels differ, \
             by at most {largest} of 255"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_by_pixel() {
        let picture = |data: [u8; 9]| RgbImage { width: 3, height: 1, data: data.to_vec() };
        let one = picture([1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let same = Difference::new(&one, &one);
        assert_eq!((same.differing, same.pixels, same.largest), (0, 3, 0));
        assert_eq!(same.in_words(None), "the same, all 3 pixels");
        let other = Difference::new(&one, &picture([1, 2, 3, 4, 0, 0, 7, 8, 255]));
        assert_eq!((other.differing, other.largest), (2, 246));
        assert!((other.psnr - one.psnr(&picture([1, 2, 3, 4, 0, 0, 7, 8, 255]))).abs() < 1e-9);
        assert!(other.in_words(Some(5.0)).contains("of at least 5: 2 of 3 pixels differ"));
    }
}
