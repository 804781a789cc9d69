//! `flux-rt compare`: the same prompts and seeds in several modes and caches, with times, quality and
//! files of all of it.

mod draw;
mod floor;
mod folder;
mod matrix;
mod memory;
mod outputs;
mod run;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::args::CompareArgs;
use crate::cli::compare::folder::Folder;
use crate::cli::compare::matrix::Configuration;
use crate::cli::compare::matrix::configurations;
use crate::cli::compare::run::Comparison;
use crate::cli::interrupt;
use crate::cli::job;
use crate::cli::progress::Progress;
use crate::error::Error;
use crate::pipeline::Request;

/// What the caching tutorial draws.
const PROMPTS: [&str; 3] = [
    "A majestic lion standing on a rocky cliff at sunset",
    "A futuristic city skyline with flying cars and neon lights",
    "A beautiful garden with blooming flowers and butterflies",
];

/// Draws every prompt in every configuration, and writes what came of it.
///
/// # Errors
/// Whatever stops it; what was finished before stays in the folder. The first configuration's error, if
/// one failed and the rest went on.
pub(super) fn execute(args: CompareArgs) -> Result<ExitCode> {
    let CompareArgs {
        modes,
        caches,
        quality_floor,
        prompts,
        shape,
        seed,
        rng,
        compute,
        model,
        output,
    } = args;
    for mode in &modes {
        job::check_speed(&compute, mode)?;
    }
    let configurations = configurations(&modes, &caches)?;
    floor::check(quality_floor, &configurations)?;
    let template = job::template(&prompts, &shape, seed, &rng)?;
    for Configuration { options, .. } in &configurations {
        job::check_values(&Request { cache: options.clone(), ..template.clone() })?;
    }
    let mut prompts = job::prompt_list(prompts)?;
    if prompts.is_empty() {
        prompts = PROMPTS.map(String::from).to_vec();
    }
    if u64::try_from(prompts.len() - 1).ok().and_then(|more| seed.checked_add(more)).is_none() {
        let reason = "expected seed + prompts - 1 below 2^64".into();
        return Err(Error::Request { field: "seed", reason }.into());
    }
    let folder = Folder::open(&output)?;
    interrupt::install()?;
    let progress = Progress::new(output.progress, configurations.len() * (prompts.len() + 1));
    let comparison = Comparison {
        source: job::source(model),
        compute,
        template,
        prompts,
        configurations,
        floor: quality_floor,
        folder,
        progress,
        json: output.json,
    };
    comparison.run()
}
