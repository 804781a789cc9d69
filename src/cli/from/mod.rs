//! A picture that is repeated: what it says of how it was made, and what the user says instead.
//!
//! What a picture says is data. No file, folder or address in it is opened: where it needs one, the
//! user is asked to name it.

mod cache;
mod differences;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum as _;

use crate::cli::args::ModelArgs;
use crate::cli::args::SpeedArgs;
use crate::cli::given::Given;
use crate::cli::job;
use crate::cli::stream;
use crate::cli::stream::quoted;
use crate::elastic::Mode;
use crate::elastic::RecordedPlan;
use crate::error::Error;
use crate::files::File;
use crate::ops::noise::Grid;
use crate::pipeline::DType;
use crate::pipeline::Receipt;
use crate::pipeline::Request;
use crate::pipeline::RgbImage;
use crate::pipeline::Rng;
use crate::pipeline::image;

/// A picture that is repeated.
#[derive(Debug)]
pub(super) struct Repeat {
    /// Its pixels.
    pub(super) image: RgbImage,
    /// What it says.
    pub(super) receipt: Receipt,
    /// What the user has been told.
    pub(super) notes: Vec<String>,
    /// Fields of the metadata that the notes are about.
    pub(super) named: BTreeSet<&'static str>,
    given: Given,
    /// As the user wrote it.
    path: PathBuf,
}

impl Repeat {
    /// Reads the picture at `path`, which the user named with `field`.
    ///
    /// # Errors
    /// [`Error::Request`] if it cannot be read, [`Error::Format`] or [`Error::Config`] if it is no picture of
    /// this program.
    pub(super) fn read(field: &'static str, path: &Path, given: Given) -> Result<Self> {
        let bytes = File::Disk(path.into()).bytes().map_err(|error| match error {
            Error::Read { path, source } => {
                let reason = format!("cannot read {}: {source}", path.display());
                Error::Request { field, reason }
            }
            other => other,
        })?;
        let (image, texts) = image::decode_png(&bytes, path)?;
        let receipt = Receipt::read(&texts, path)?;
        let (notes, named) = (Vec::new(), BTreeSet::new());
        let mut repeat = Self { image, receipt, notes, named, given, path: path.into() };
        if repeat.receipt.schema.is_none() {
            repeat.unsaid("schema", "that of this version");
        }
        Ok(repeat)
    }

    /// An error about what was asked for says of which picture that is.
    ///
    /// # Errors
    /// Those of `outcome`.
    pub(super) fn in_context<T, E: Into<anyhow::Error>>(&self, outcome: Result<T, E>) -> Result<T> {
        outcome.map_err(Into::into).map_err(|error: anyhow::Error| match error.downcast_ref() {
            Some(Error::Request { .. }) => {
                error.context(format!("with the settings of {}", self.path.display()))
            }
            _ => error,
        })
    }

    /// Tells the user something.
    pub(super) fn note(&mut self, text: String) {
        stream::note(&text);
        self.notes.push(text);
    }

    /// Replaces by what the picture says what the user did not give, the cache excepted.
    ///
    /// # Errors
    /// [`Error::Request`] for what the user has to name.
    pub(super) fn fill(
        &mut self,
        request: &mut Request,
        prompts: &mut Vec<String>,
        speed: &mut SpeedArgs,
        model: &mut ModelArgs,
    ) -> Result<()> {
        self.model(model)?;
        self.prompts(prompts, &mut request.prompt_2);
        self.shape(request);
        let seed = self.receipt.seed;
        request.seed = self.take("seed", request.seed, seed, "0");
        request.rng = self.rng(request.rng)?;
        self.dtype(&mut speed.compute.dtype)?;
        self.mode(&mut speed.mode)
    }

    /// Checks the values as far as that goes without the model, the picture's among them.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub(super) fn check(&self, request: &Request, speed: &SpeedArgs) -> Result<()> {
        self.in_context(job::check_speed(&speed.compute, &speed.mode))?;
        self.in_context(job::check_values(request))
    }

    /// Whether T5 was in e4m3.
    pub(super) fn t5_e4m3(&self) -> bool {
        self.receipt.t5_dtype.as_deref() == Some("e4m3")
    }

    /// The value of a field: the flag's if it was given, else the picture's, else `default`, which is the
    /// flag's too. What is not the picture's is named.
    fn take<T: PartialEq + Display>(
        &mut self,
        field: &'static str,
        flag: T,
        said: Option<T>,
        default: &str,
    ) -> T {
        match (self.given.written(field), said) {
            (None, Some(said)) => said,
            (None, None) => {
                self.unsaid(field, default);
                flag
            }
            (Some(written), Some(said)) if said != flag => {
                let note = instead(written, field, &said.to_string());
                self.override_with(&[field], note);
                flag
            }
            (Some(_), _) => flag,
        }
    }

    /// As [`Self::take`], of what may be none.
    fn take_option<T: PartialEq + Display>(
        &mut self,
        field: &'static str,
        flag: Option<T>,
        said: Option<Option<T>>,
        default: &str,
    ) -> Option<T> {
        let said = said.map(Optional);
        self.take(field, Optional(flag), said, default).0
    }

    /// Names a field that the picture does not say.
    fn unsaid(&mut self, field: &'static str, default: &str) {
        self.override_with(
            &[field],
            format!("the picture does not say its {field}; taking {default}"),
        );
    }

    /// Tells the user that `fields` are not the picture's.
    fn override_with(&mut self, fields: &[&'static str], note: String) {
        self.named.extend(fields);
        self.note(note);
    }

    fn model(&mut self, args: &mut ModelArgs) -> Result<()> {
        let said = self.receipt.model.clone();
        match said {
            Some(said) if self.given.written("model").is_none() && said != "demo" => {
                let model = quoted(&said);
                refuse(
                    "model",
                    format!(
                        "the picture was made with the model {model}, which is used only if you name it: \
                         expected --model {model}, or wherever it lies now"
                    ),
                )
            }
            said => {
                args.model = self.take("model", std::mem::take(&mut args.model), said, "demo");
                Ok(())
            }
        }
    }

    /// New prompts replace both of the picture's texts.
    fn prompts(&mut self, prompts: &mut Vec<String>, prompt_2: &mut Option<String>) {
        let (said, said_2) = (self.receipt.prompt.clone(), self.receipt.prompt_2.clone());
        let given = self.given.written("prompt").or(self.given.written("prompt_file"));
        let Some(written) = given.map(str::to_owned) else {
            *prompts = vec![said];
            *prompt_2 = self.take_option("prompt_2", prompt_2.take(), Some(said_2), "none");
            return;
        };
        if prompts.as_slice() != [said.as_str()] {
            self.override_with(&["prompt"], instead(&written, "prompt", &said));
        }
        match (self.given.written("prompt_2"), said_2) {
            (None, Some(said)) => {
                self.override_with(&["prompt_2"], instead(&written, "prompt_2", &said));
            }
            (_, said) => {
                *prompt_2 = self.take_option("prompt_2", prompt_2.take(), Some(said), "none");
            }
        }
    }

    fn shape(&mut self, request: &mut Request) {
        let Receipt { width, height, steps, guidance, max_sequence_length, vae_tiling, .. } =
            self.receipt;
        let RgbImage { width: columns, height: rows, .. } = self.image;
        for (field, flag, said, own) in [
            ("width", &mut request.width, width, columns),
            ("height", &mut request.height, height, rows),
        ] {
            *flag = self.take_option(field, *flag, said.map(Some), &format!("its own, {own}"));
            *flag = flag.or(Some(own));
        }
        let default = "the model's default";
        request.steps = self.take_option("steps", request.steps, steps.map(Some), default);
        request.guidance = self.take_option("guidance", request.guidance, guidance, default);
        let tokens = max_sequence_length.map(Some);
        let flag = request.max_sequence_length;
        request.max_sequence_length =
            self.take_option("max_sequence_length", flag, tokens, default);
        request.vae_tiling = self.take("vae_tiling", request.vae_tiling, Some(vae_tiling), "none");
    }

    fn rng(&mut self, flag: Rng) -> Result<Rng> {
        let said = self.receipt.rng.clone();
        if let Some(written) = self.given.written("latents") {
            if let Some(said) = said.filter(|said| known_rng(said).is_some()) {
                let note = instead(written, "noise", &said);
                self.override_with(&["rng", "rng_grid"], note);
            }
            return Ok(flag);
        }
        let Some(said) = said else {
            self.take("rng", flag.to_string(), None, "torch-cuda");
            return Ok(flag);
        };
        match known_rng(&said) {
            Some(_) => {}
            None if self.given.written("rng").is_some() => {}
            None => {
                let file = quoted(&said);
                return refuse(
                    "latents",
                    format!(
                        "the picture was made from the latents in {file}, which are read only if you name \
                         them: expected --latents {file}, or wherever they lie now"
                    ),
                );
            }
        }
        let name = match self.given.written("rng") {
            Some(_) => self.take("rng", flag.to_string(), Some(said), "torch-cuda"),
            None => said,
        };
        let grid = match flag {
            Rng::TorchCuda { grid } => grid,
            Rng::TorchCpu | Rng::TorchCpuLegacy => None,
        };
        match known_rng(&name) {
            Some(Rng::TorchCuda { .. }) => Ok(Rng::TorchCuda { grid: self.grid(grid)? }),
            _ if self.given.written("rng_grid").is_some() => refuse(
                "rng-grid",
                format!("only torch-cuda has a grid, and the picture's noise is of {name}"),
            ),
            other => Ok(other.unwrap_or(flag)),
        }
    }

    fn grid(&mut self, flag: Option<Grid>) -> Result<Option<Grid>> {
        let said = self.receipt.rng_grid.map(Grid::of_blocks).transpose()?;
        let blocks = |grid: Option<Grid>| grid.map(Grid::blocks);
        let default = "that of the device that computes";
        let said = said.map(|grid| Some(grid.blocks()));
        let taken = self.take_option("rng_grid", blocks(flag), said, default);
        Ok(taken.map(Grid::of_blocks).transpose()?)
    }

    fn dtype(&mut self, flag: &mut DType) -> Result<()> {
        let said = self.receipt.dtype.clone();
        let known = said.as_deref().map(|said| match DType::from_str(said, false) {
            Ok(dtype @ (DType::F32 | DType::Bf16)) => Ok(dtype),
            _ => Err(quoted(said)),
        });
        *flag = match known {
            Some(Err(found)) if self.given.written("dtype").is_none() => refuse(
                "dtype",
                format!("expected f32 or bf16 in the picture, found {found}; give --dtype"),
            )?,
            Some(Ok(said)) => self.take("dtype", *flag, Some(said), "auto"),
            _ => self.take("dtype", *flag, None, "auto"),
        };
        Ok(())
    }

    fn mode(&mut self, flag: &mut Mode) -> Result<()> {
        let said = self.receipt.mode.clone();
        if self.given.written("mode").is_some() || said.is_none() && self.receipt.plan().is_none() {
            self.take("mode", flag.to_string(), said, "XL");
            return Ok(());
        }
        let name = said.unwrap_or_else(|| {
            self.unsaid("mode", "its plan");
            "plan".to_owned()
        });
        let built_in = Mode::NAMES.contains(&name.as_str()).then(|| name.parse::<Mode>());
        *flag = match (built_in.transpose()?, self.receipt.plan()) {
            (Some(mode), None) => mode,
            (Some(Mode::Original), Some(_)) | (None, None) => refuse(
                "mode",
                format!(
                    "the picture was made in mode {} and does not hold its plan; name a mode or a plan \
                     with --mode",
                    quoted(&name)
                ),
            )?,
            (_, Some(plan)) => {
                let (plan, lowered) = (plan.clone(), self.receipt.lowered.clone());
                let picture = self.path.clone();
                Mode::Recorded(Box::new(RecordedPlan { name, plan, lowered, picture }))
            }
        };
        Ok(())
    }
}

/// A value, or none.
#[derive(PartialEq)]
struct Optional<T>(Option<T>);

impl<T: Display> Display for Optional<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(formatter),
            None => formatter.write_str("none"),
        }
    }
}

/// The generator of that name; none is a file of latents.
fn known_rng(name: &str) -> Option<Rng> {
    let all = [Rng::default(), Rng::TorchCpu, Rng::TorchCpuLegacy];
    all.into_iter().find(|rng| rng.to_string() == name)
}

/// What the user wrote, and what the picture says of `field`.
fn instead(written: &str, field: &str, said: &str) -> String {
    format!("{written} instead of the picture's {field} {}", quoted(said))
}

fn refuse<T>(field: &'static str, reason: impl Into<String>) -> Result<T> {
    Err(Error::Request { field, reason: reason.into() }.into())
}
