//! `flux-rt bench`: how long loading, each phase and each kernel take.

mod gpu_sampler;
mod steps;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::cli::args::BenchArgs;
use crate::cli::args::SpeedArgs;
use crate::cli::bench::gpu_sampler::GpuLoad;
use crate::cli::bench::gpu_sampler::GpuSampler;
use crate::cli::bench::steps::Steps;
use crate::cli::bench::table::kernel_json;
use crate::cli::bench::table::kernel_table;
use crate::cli::job;
use crate::cli::stream;
use crate::device::Device;
use crate::device::Profile;
use crate::ops;
use crate::pipeline::Engine;
use crate::pipeline::Request;
use crate::pipeline::Settings;
use crate::pipeline::Timings;
use crate::pipeline::measure::GpuMemory;
use crate::pipeline::metadata::cache_name;

/// Raised when a field of the document changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

const PROMPT: &str = "a photograph of a red fox in the snow, early morning light";

/// Everything that was measured.
struct Report {
    settings: Settings,
    runs: Vec<Timings>,
    /// Of the last run.
    steps: Steps,
    memory: Option<GpuMemory>,
    /// Driver allocations during the measured runs: none in the steady state.
    allocations_in_runs: Option<usize>,
    loaded_bytes: Option<u64>,
    load: Option<GpuLoad>,
    profile: Option<Profile>,
}

/// Least, median and most of some milliseconds.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    [at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1))]
}

/// Loads the model, warms up, measures, prints.
///
/// # Errors
/// Those of loading and of a run.
pub(super) fn execute(args: BenchArgs) -> Result<ExitCode> {
    if args.kernels {
        stream::result(&(ops::tuning_table().join("\n") + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let BenchArgs { picture, speed, cache, model, runs, warmup, no_kernels, json, .. } = args;
    job::check_speed(&speed.compute, &speed.mode)?;
    let cache = cache.options()?;
    let source = job::source(model);
    let name = source.model.clone();
    let request = |run: usize| Request {
        // A prompt of its own for every run: one that was encoded before would cost nothing.
        prompt: Some(format!("{}, run {run}", PROMPT)),
        width: picture.width,
        height: picture.height,
        steps: picture.steps,
        max_sequence_length: picture.max_sequence_length,
        vae_tiling: picture.vae_tiling,
        cache: cache.clone(),
        ..Request::default()
    };
    let builder = job::builder(source, &speed.compute).mode(speed.mode.clone());
    let mut engine = builder.expecting(request(0)).build()?;
    for note in engine.notes() {
        stream::note(&note);
    }
    let loaded_bytes = engine.gpu_memory().map(|memory| memory.uploaded_bytes);
    let settings = Settings::new(&request(0), engine.defaults())?;
    for run in 0..warmup {
        engine.generate(&request(run))?;
    }
    let before = engine.gpu_memory().map(|memory| memory.allocations);
    let sampler = match engine.device() {
        Device::Cuda(cuda) => GpuSampler::start(cuda.uuid()),
        Device::Cpu => None,
    };
    let mut timings = Vec::with_capacity(runs);
    let mut steps = Steps::default();
    for run in 0..runs {
        let made = engine.generate(&request(warmup + run))?;
        timings.push(made.timings);
        steps = Steps::of(made);
    }
    let load = sampler.and_then(GpuSampler::stop);
    let after = engine.gpu_memory();
    let profile = match no_kernels {
        true => None,
        false => engine.profile(&request(warmup + runs))?,
    };
    let report = Report {
        settings,
        runs: timings,
        steps,
        memory: after,
        allocations_in_runs: after.zip(before).map(|(after, before)| after.allocations - before),
        loaded_bytes,
        load,
        profile,
    };
    if json {
        stream::document(&document(&name, &speed, &engine, &report))?;
    } else {
        stream::result(&text(&name, &speed, &engine, &report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Name and milliseconds of every row of the phase table.
fn phases(report: &Report) -> [(&'static str, [f64; 3]); 6] {
    let of = |value: fn(&Timings) -> f64| spread(report.runs.iter().map(value));
    let steps = report.settings.steps as f64;
    let step = spread(report.runs.iter().map(|run| run.denoise_ms / steps));
    [
        ("encode", of(|run| run.encode_ms)),
        ("prepare", of(|run| run.prepare_ms)),
        ("denoise", of(|run| run.denoise_ms)),
        ("step", step),
        ("decode", of(|run| run.decode_ms)),
        ("whole image", of(Timings::total_ms)),
    ]
}

/// GB/s of loading, where files were read onto a GPU; a synthetic model has none.
fn load_rate(engine: &Engine, report: &Report) -> Option<f64> {
    let memory = report.memory?;
    // Its norms and biases alone are a thousandth.
    let bytes = report.loaded_bytes.filter(|&bytes| 10 * bytes > memory.peak_bytes as u64)?;
    Some(bytes as f64 / 1e6 / engine.load_ms())
}

fn document(name: &str, speed: &SpeedArgs, engine: &Engine, report: &Report) -> Value {
    let Settings { width, height, steps, vae_tiling, .. } = report.settings;
    let mut phase_values = serde_json::Map::new();
    for (phase, [min, median, max]) in phases(report) {
        let key = format!("{}_ms", phase.replace(' ', "_"));
        phase_values.insert(key, json!({ "min": min, "median": median, "max": max }));
    }
    json!({
        "schema_version": SCHEMA_VERSION,
        "program": "flux-rt",
        "version": env!("CARGO_PKG_VERSION"),
        "model": name,
        "device": engine.device_name(),
        "dtype": engine.dtype().to_string(),
        "mode": speed.mode.to_string(),
        "cache": cache_name(report.settings.cache.as_ref()),
        "width": width,
        "height": height,
        "steps": steps,
        "vae_tiling": vae_tiling,
        "runs": report.runs.len(),
        "load_ms": engine.load_ms(),
        "loaded_bytes": report.loaded_bytes,
        "load_gb_per_s": load_rate(engine, report),
        "phases": phase_values,
        "steps_on_device": report.steps.json(),
        "cache_record": &report.steps.record,
        "t5_dtype": engine.t5_dtype(),
        "max_vram_bytes": speed.compute.max_vram,
        "peak_memory_bytes": report.memory.map(|memory| memory.peak_bytes),
        "held_memory_bytes": report.memory.map(|memory| memory.held_bytes),
        "offloaded_bytes": report.memory.map(|memory| {
            let [modulation, t5] = memory.offloaded_bytes;
            json!({ "modulation": modulation, "t5": t5 })
        }),
        "driver_allocations_in_runs": report.allocations_in_runs,
        "gpu": report.load.map(|load| load.json()),
        "kernels": report.profile.as_ref().map(kernel_json),
        "gemm_input_rms": report.profile.as_ref().map(|profile| {
            profile
                .inputs
                .iter()
                .map(|(op, min, max)| json!({ "op": op, "min": min, "max": max }))
                .collect::<Vec<_>>()
        }),
    })
}

fn text(name: &str, speed: &SpeedArgs, engine: &Engine, report: &Report) -> String {
    let Settings { width, height, steps, .. } = report.settings;
    let (device, dtype) = (engine.device_name(), engine.dtype());
    let (mode, cache) = (&speed.mode, cache_name(report.settings.cache.as_ref()));
    let mut text = format!(
        "{name} on {device}, {dtype}, mode {mode}, cache {cache}, {width}x{height}, {steps} steps\n"
    );
    text += &format!("load         {:>9.1} ms", engine.load_ms());
    if let Some(rate) = load_rate(engine, report) {
        text += &format!(", {rate:.1} GB/s");
    }
    text += &format!("\n\n{:<12} {:>9}    {:>9} {:>9}\n", "phase", "median ms", "least", "most");
    for (phase, [min, median, max]) in phases(report) {
        text += &format!("{phase:<12} {median:>9.2}    {min:>9.2} {max:>9.2}\n");
    }
    text += &format!("{} runs, each with a prompt of its own\n", report.runs.len());
    text += &report.steps.text();
    if let Some(memory) = report.memory {
        let peak = memory.peak_bytes as f64 / 1e9;
        let held = memory.held_bytes as f64 / 1e9;
        let grown = report.allocations_in_runs.unwrap_or_default();
        text += &format!(
            "\nGPU memory   {peak:.2} GB at most, {held:.2} GB held with driver and kernels; \
             allocations in the runs: {grown}\n"
        );
    }
    if let Some(GpuLoad { sm_mhz: [low, mid, high], watts: [least, middle, most] }) = report.load {
        text += &format!(
            "SM clock     {mid} MHz ({low} to {high}), power {middle:.0} W ({least:.0} to {most:.0})\n"
        );
    }
    if let Some(profile) = &report.profile {
        text += &kernel_table(profile);
    }
    text
}
