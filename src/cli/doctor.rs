//! `flux-rt doctor`: what this machine offers, and whether `flux-rt run` would work.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::cli;
use crate::cli::args::DoctorArgs;
use crate::cli::output;
use crate::cli::stream;
use crate::device::Device;
use crate::error::Error;
use crate::files;
use crate::model::hf_cache;
use crate::model::source::ModelSource;
use crate::pipeline::Engine;

/// Raised when a field of the document changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// One thing looked at.
struct Finding {
    /// The key in the document.
    name: &'static str,
    text: String,
    json: Value,
    outcome: Outcome,
}

/// What a finding means for `run`.
enum Outcome {
    /// Nothing: `run` works either way.
    Told,
    /// It was tried and works.
    Works,
    /// `run` would not work: its exit code and the reason.
    Fails(u8, String),
}

/// Looks at the machine and prints what it finds; the exit code is what `run` would give.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn execute(args: &DoctorArgs) -> Result<ExitCode> {
    let findings =
        [program(), processor(), memory(), gpu(), demo(), hub_cache(), folder(), variables()];
    let failures: Vec<(u8, &str)> = findings.iter().filter_map(Finding::failure).collect();
    if args.json {
        let mut document = json!({ "schema_version": SCHEMA_VERSION, "ok": failures.is_empty() });
        for Finding { name, json, .. } in &findings {
            document[name] = json.clone();
        }
        document["failures"] = failures.iter().map(|(_, reason)| *reason).collect();
        stream::document(&document)?;
    } else {
        let mut text = String::new();
        for finding in &findings {
            let mark = match finding.outcome {
                Outcome::Told => "",
                Outcome::Works => "ok",
                Outcome::Fails(..) => "FAILED",
            };
            let name = finding.name.replace('_', " ");
            let lines = finding.text.replace('\n', "\n                       ");
            text.push_str(&format!("{mark:<7}{name:<16}{lines}\n"));
        }
        stream::result(&text)?;
    }
    match failures.first() {
        None => Ok(ExitCode::SUCCESS),
        Some((code, _)) => {
            let reasons: Vec<&str> = failures.iter().map(|(_, reason)| *reason).collect();
            let text = format!("`flux-rt run` would not work here: {}", reasons.join("; "));
            stream::error(&text, None, *code);
            Ok(ExitCode::from(*code))
        }
    }
}

impl Finding {
    fn failure(&self) -> Option<(u8, &str)> {
        match &self.outcome {
            Outcome::Fails(code, reason) => Some((*code, reason)),
            Outcome::Told | Outcome::Works => None,
        }
    }
}

fn told(name: &'static str, text: String, json: Value) -> Finding {
    Finding { name, text, json, outcome: Outcome::Told }
}

fn works(name: &'static str, text: String, json: Value) -> Finding {
    Finding { name, text, json, outcome: Outcome::Works }
}

/// `json` gets the reason as well.
fn fails(name: &'static str, error: Error, mut json: Value) -> Finding {
    let code = error.exit_code();
    let reason = cli::describe(&error.into());
    json["ok"] = false.into();
    json["error"] = reason.as_str().into();
    Finding { name, text: reason.clone(), json, outcome: Outcome::Fails(code, reason) }
}

fn program() -> Finding {
    let version = env!("CARGO_PKG_VERSION");
    let debug = cfg!(debug_assertions);
    let build = if debug { ", a debug build: slow; build with --release" } else { "" };
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let text = format!("flux-rt {version} for {system}{build}");
    told("program", text, json!({ "version": version, "system": system, "debug": debug }))
}

fn processor() -> Finding {
    let info = files::read_text(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model = value_of(&info, "model name").unwrap_or("of a kind not told");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::current_num_threads();
    let features = features();
    let text = format!(
        "{model}; {cores} cores usable, {threads} threads (RAYON_NUM_THREADS); {}",
        features.join(" ")
    );
    let json = json!({
        "model": model, "cores": cores, "threads": threads, "features": features,
    });
    told("processor", text, json)
}

/// The instruction sets that matrix products gain from.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", std::is_x86_feature_detected!("avx2")),
            ("fma", std::is_x86_feature_detected!("fma")),
            ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ];
        known.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

fn memory() -> Finding {
    let info = files::read_text(Path::new("/proc/meminfo")).unwrap_or_default();
    let bytes = |key: &str| -> Option<u64> {
        let kib: u64 = value_of(&info, key)?.strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    let (total, free) = (bytes("MemTotal"), bytes("MemAvailable"));
    let limit = files::read_text(Path::new("/sys/fs/cgroup/memory.max")).ok();
    let limit: Option<u64> = limit.and_then(|text| text.trim().parse().ok());
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let text = match (total, free) {
        (Some(total), Some(free)) => format!("{} of {} available", gib(free), gib(total)),
        _ => "size not told by this system".to_owned(),
    };
    let limited = limit.map(|limit| format!("; this process is limited to {}", gib(limit)));
    let text = text + &limited.unwrap_or_default();
    let json = json!({ "total_bytes": total, "available_bytes": free, "limit_bytes": limit });
    told("memory", text, json)
}

/// What the NVIDIA driver tells through /proc, and whether the first GPU can be used.
fn gpu() -> Finding {
    let version = files::read_text(Path::new("/proc/driver/nvidia/version")).unwrap_or_default();
    let driver = version.lines().find_map(|line| line.strip_prefix("NVRM version:"));
    let driver = driver.map(str::trim);
    let folder = Path::new("/proc/driver/nvidia/gpus");
    let cards: Vec<String> = files::list(folder).unwrap_or_default();
    let model = |card: &String| {
        let info = files::read_text(&folder.join(card).join("information")).ok()?;
        Some(value_of(&info, "Model")?.to_owned())
    };
    let cards: Vec<String> = cards.iter().filter_map(model).collect();
    let seen = match driver {
        None => "no NVIDIA driver found".to_owned(),
        Some(driver) if cards.is_empty() => format!("{driver}; no GPU listed"),
        Some(driver) => format!("{} with {driver}", cards.join(", ")),
    };
    let toolkit = Device::cuda_toolkit();
    let kernels = toolkit.map_or_else(
        || "this program has no kernels: it was built without a CUDA compiler".to_owned(),
        |toolkit| format!("kernels made by {toolkit}"),
    );
    let (usable, outcome) = match Device::cuda(0) {
        Ok(device) => (true, format!("pictures are made on {}", device.name())),
        Err(error) => (false, format!("pictures are made on the CPU: {error}")),
    };
    let text = format!("{seen}\n{kernels}\n{outcome}");
    let json = json!({ "cuda_build": toolkit.is_some(), "driver": driver, "cards": cards, "usable": usable });
    told("gpu", text, json)
}

/// Whether `flux-rt run` without a model works: loads the demo model for real.
fn demo() -> Finding {
    let start = Instant::now();
    match Engine::builder().build() {
        Ok(engine) => {
            let load_ms = cli::progress::milliseconds(start.elapsed().as_secs_f64() * 1000.0);
            let device = engine.device_name();
            let text = format!("loads in {load_ms:.0} ms, runs on {device}");
            works("demo_model", text, json!({ "ok": true, "load_ms": load_ms, "device": device }))
        }
        Err(error) => fails("demo_model", error, json!({})),
    }
}

fn hub_cache() -> Finding {
    let folders = hf_cache::cache_folders(&hf_cache::process_env);
    let mut lines = Vec::new();
    let mut entries = Vec::new();
    for folder in &folders {
        let names = files::list(folder).unwrap_or_default();
        let ids = names.iter().filter_map(|name| name.strip_prefix("models--"));
        let ids: Vec<String> = ids.map(|id| id.replacen("--", "/", 1)).collect();
        let state =
            if !folder.is_dir() { "not there".to_owned() } else { format!("{} models", ids.len()) };
        lines.push(format!("{}: {state}", folder.display()));
        let mut models = Vec::new();
        for id in ids {
            let usable = ModelSource::new(&id).resolve().is_ok();
            if usable {
                lines.push(format!("  --model {id}"));
            }
            models.push(json!({ "id": id, "usable": usable }));
        }
        entries.push(json!({
            "path": folder.to_string_lossy(), "exists": folder.is_dir(), "models": models,
        }));
    }
    if folders.is_empty() {
        lines.push("none: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME are not set".to_owned());
    }
    told("hub_cache", lines.join("\n"), entries.into())
}

/// Whether pictures can be written where `run` writes them unasked.
fn folder() -> Finding {
    let place = Path::new("out");
    let here = std::env::current_dir().unwrap_or_default().join(place).display().to_string();
    match output::check_folder(place) {
        Ok(()) => {
            works("output", format!("{here} is writable"), json!({ "path": here, "ok": true }))
        }
        Err(error) => fails("output", error, json!({ "path": here })),
    }
}

/// The variables that `run` would take values from.
fn variables() -> Finding {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.starts_with("FLUX_RT_").then(|| (name, value.to_string_lossy().into_owned()))
    });
    let variables: Vec<(String, String)> = variables.collect();
    let unknown = |name: &str| {
        if cli::usage::is_variable(name) { "" } else { " (not a variable of this program)" }
    };
    let lines: Vec<String> =
        variables.iter().map(|(name, value)| format!("{name}={value}{}", unknown(name))).collect();
    let text = if lines.is_empty() { "no FLUX_RT_* is set".into() } else { lines.join("\n") };
    told("variables", text, json!(BTreeMap::from_iter(variables)))
}

/// The value of a `key : value` line as in /proc.
fn value_of<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.trim(), value.trim())).find(|(name, _)| *name == key)?.1.into()
}
