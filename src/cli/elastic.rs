//! `flux-rt elastic`: prepares a model for widths, and makes plans.

use std::io;
use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::Result;
use indicatif::ProgressBar;
use indicatif::ProgressStyle as BarStyle;
use serde_json::Value;
use serde_json::json;

use crate::cli::args::CalibrationArgs;
use crate::cli::args::ElasticArgs;
use crate::cli::args::ElasticVerb;
use crate::cli::args::ModelArgs;
use crate::cli::args::PlanArgs;
use crate::cli::args::PrepareArgs;
use crate::cli::interrupt;
use crate::cli::job;
use crate::cli::output;
use crate::cli::prompts;
use crate::cli::stream;
use crate::elastic::choice::Choice;
use crate::elastic::file;
use crate::files;
use crate::pipeline::Engine;
use crate::pipeline::Request;
use crate::pipeline::planner::Planned;
use crate::pipeline::planner::check_bound;
use crate::pipeline::widths::CALIBRATION_PROMPTS;
use crate::pipeline::widths::check_new;

/// Raised when a field of the document changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// Runs the verb.
///
/// # Errors
/// Whatever stops it; nothing half done is left.
pub(super) fn execute(args: ElasticArgs) -> Result<ExitCode> {
    interrupt::install()?;
    match args.verb {
        ElasticVerb::Prepare(args) => prepare(*args),
        ElasticVerb::Plan(args) => plan(*args),
    }
}

fn prepare(args: PrepareArgs) -> Result<ExitCode> {
    let PrepareArgs { out, calibration, model } = args;
    check_new(&out)?;
    output::check_folder(output::folder_of(&out))?;
    let requests = requests(&calibration)?;
    let mut engine = engine(&calibration, model, false)?;
    let bar = bar("calibrating");
    interrupt::working();
    let prepared = engine.prepare_widths(&requests, &out, &mut |done, of| advance(&bar, done, of));
    bar.finish_and_clear();
    prepared?;
    stream::result(&format!("{}\n", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn plan(args: PlanArgs) -> Result<ExitCode> {
    let PlanArgs { max_loss, out, overwrite, name, json, calibration, model } = args;
    check_bound(f64::from(max_loss))?;
    output::check_file("out", &out, overwrite)?;
    let requests = requests(&calibration)?;
    let mut engine = engine(&calibration, model, true)?;
    let bar = bar("measuring");
    interrupt::working();
    let planned = engine
        .make_plan(&name, f64::from(max_loss), &requests, &mut |done, of| advance(&bar, done, of));
    bar.finish_and_clear();
    let planned = planned?;
    output::make_folder(output::folder_of(&out))?;
    files::write_atomic(&out, file::to_json(&planned.plan).as_bytes())?;
    for line in summary(&planned) {
        stream::line(&line);
    }
    if json {
        stream::document(&document(&planned))?;
    } else {
        stream::result(&format!("{}\n", out.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A picture to calibrate with for each prompt.
fn requests(calibration: &CalibrationArgs) -> Result<Vec<Request>> {
    let prompts = match &calibration.prompt_file {
        Some(file) => prompts::read_file(file)?,
        None => CALIBRATION_PROMPTS.map(str::to_owned).to_vec(),
    };
    let request = |(prompt, seed): (String, u64)| Request {
        prompt: Some(prompt),
        seed,
        width: calibration.width,
        height: calibration.height,
        steps: calibration.steps,
        ..Request::default()
    };
    Ok(prompts.into_iter().zip(calibration.seed..).map(request).collect())
}

fn engine(calibration: &CalibrationArgs, model: ModelArgs, planning: bool) -> Result<Engine> {
    let engine = Engine::builder()
        .source(job::source(model))
        .device(calibration.device)
        .planning(planning)
        .build()?;
    for note in engine.notes() {
        stream::note(&note);
    }
    Ok(engine)
}

fn bar(word: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0).with_message(word);
    // The template is a constant that fits.
    let style = BarStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    bar.with_style(style.unwrap_or_else(|_| BarStyle::default_bar()))
}

fn advance(bar: &ProgressBar, done: usize, of: usize) -> ControlFlow<()> {
    bar.set_length(of as u64);
    bar.set_position(done as u64);
    interrupt::flow()
}

/// What was found, for people.
fn summary(planned: &Planned) -> Vec<String> {
    let taken = planned.taken.iter().filter(|taken| **taken).count();
    let mut lines = vec![format!("{taken} of {} changes", planned.choices.len())];
    if let Some(measured) = planned.plan.measured {
        let how =
            if planned.measured_gains { "measured" } else { "by the table of an H100's kernels" };
        lines.push(format!(
            "loss {:.4}, PSNR {:.1} dB, a step in {:.1} % of XL's time ({how})",
            measured.loss,
            measured.psnr,
            100.0 * measured.time
        ));
    }
    for (mode, loss, time) in &planned.built_in {
        let time = 100.0 * time;
        lines.push(format!("built-in mode {mode}: loss {loss:.4}, a step in {time:.1} %"));
    }
    lines
}

/// What was found, for programs.
fn document(planned: &Planned) -> Value {
    let choice = |(choice, taken): (&Choice, &bool)| {
        json!({
            "block": choice.block,
            "change": choice.change.name(),
            "loss": choice.loss.sqrt(),
            "gain": choice.gain,
            "taken": taken,
        })
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "name": planned.plan.name,
        "model": planned.plan.model,
        "measured": planned.plan.measured,
        "gains": if planned.measured_gains { "measured" } else { "kernel table" },
        "built_in": planned.built_in.iter()
            .map(|(mode, loss, time)| json!({ "mode": mode.to_string(), "loss": loss, "time": time }))
            .collect::<Vec<_>>(),
        "choices": planned.choices.iter().zip(&planned.taken).map(choice).collect::<Vec<_>>(),
    })
}
