//! Compiles every `kernels/*.cu` to PTX and writes the table of them, `$OUT_DIR/kernels.rs`.
//!
//! `X.cu` is op X for every card since Ampere, `X_sm89.cu` and `X_sm90.cu` the same for newer ones. A
//! PTX is kept in the target directory under a digest of all it is made of, so that only what changed
//! is compiled.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hash::Hash;
use std::hash::Hasher;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::Result;
use crate::at;
use crate::read;
use crate::toolkit;
use crate::toolkit::Toolkit;
use crate::write;

const FOLDER: &str = "kernels";
const FLAGS: [&str; 4] = ["-std=c++17", "-O3", "-lineinfo", "--ptx"];
/// What driver 580 loads.
const NEWEST_ISA: (u32, u32) = (9, 0);
/// nvcc adds what these hold to its command line.
const NVCC_VARIABLES: [&str; 3] = ["NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN"];

/// How the names of files end that are not for every card since Ampere, their tiers and what they are
/// compiled for.
const TIERS: [(&str, &str, &str); 2] =
    [("_sm89", "Sm89", "compute_89"), ("_sm90", "Sm90", "compute_90a")];

/// One `.cu` file.
struct Source {
    /// Relative to the package.
    path: PathBuf,
    op: String,
    /// The variant of `Tier` in the table.
    tier: &'static str,
    arch: &'static str,
    /// Where its PTX is kept.
    ptx: PathBuf,
}

pub(crate) fn embed() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let table = out.join("kernels.rs");
    if !Path::new(FOLDER).is_dir() {
        return write(&table, &render(None, &[])?);
    }
    println!("cargo::rerun-if-changed={FOLDER}");
    let target = target_folder(&out);
    match toolkit::find(&target)? {
        Ok(toolkit) => {
            if toolkit.nvcc.is_file() {
                println!("cargo::rerun-if-changed={}", toolkit.nvcc.display());
            }
            if let Some(ptxas) = toolkit.ptxas() {
                println!("cargo::rustc-env=FLUX_RT_PTXAS={}", ptxas.display());
            }
            let modules = compile_all(&toolkit, &target.join("ptx"), &out)?;
            write(&table, &render(Some(&toolkit.version), &modules)?)
        }
        Err(reason) if env::var_os("CARGO_FEATURE_REQUIRE_CUDA").is_some() => {
            Err(format!("feature require-cuda: {reason}").into())
        }
        Err(reason) => {
            println!("cargo::warning={reason}: built for the CPU only");
            write(&table, &render(None, &[])?)
        }
    }
}

/// The folder that Cargo marks as its target directory, which profiles and features share; else
/// `OUT_DIR`.
fn target_folder(out: &Path) -> PathBuf {
    out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).unwrap_or(out).to_owned()
}

/// A compiled file: its source and its PTX below `OUT_DIR`.
type Compiled = (Source, PathBuf, String);

fn compile_all(toolkit: &Toolkit, kept: &Path, out: &Path) -> Result<Vec<Compiled>> {
    for name in NVCC_VARIABLES {
        println!("cargo::rerun-if-env-changed={name}");
    }
    fs::create_dir_all(kept).map_err(|error| at(kept, &error))?;
    let sources = sources(toolkit, kept)?;
    let mut queue: Vec<_> = sources.iter().filter(|source| !source.ptx.is_file()).collect();
    // The longest take longest: they are taken from the end, first.
    queue.sort_by_key(|source| fs::metadata(&source.path).map_or(0, |metadata| metadata.len()));
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let (queue, failures) = (Mutex::new(queue), Mutex::new(Vec::<String>::new()));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let failed = || failures.lock().is_ok_and(|failures| !failures.is_empty());
                let next = || queue.lock().ok().and_then(|mut queue| queue.pop());
                while let Some(source) = next().filter(|_| !failed()) {
                    let failure = compile(toolkit, source).err().map(|error| error.to_string());
                    if let Ok(mut failures) = failures.lock() {
                        failures.extend(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner()?;
    if !failures.is_empty() {
        return Err(failures.join("\n").into());
    }
    let mut compiled = Vec::new();
    for source in sources {
        let text = read(&source.ptx)?;
        let name = source.path.with_extension("ptx");
        let path = out.join(name.file_name().unwrap_or_default());
        write(&path, &text)?;
        compiled.push((source, path, text));
    }
    Ok(compiled)
}

fn sources(toolkit: &Toolkit, kept: &Path) -> Result<Vec<Source>> {
    let folder = Path::new(FOLDER);
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| at(folder, &error))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "cu") {
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let of_tier =
            |&(suffix, tier, arch): &(_, _, _)| Some((stem.strip_suffix(suffix)?, tier, arch));
        let (op, tier, arch) =
            TIERS.iter().find_map(of_tier).unwrap_or((&stem, "Portable", "compute_80"));
        let op = op.to_owned();
        let mut digest = DefaultHasher::new();
        (&toolkit.version, FLAGS, arch, NVCC_VARIABLES.map(env::var_os)).hash(&mut digest);
        digest_file(&path, &mut digest, &mut BTreeSet::new())?;
        let ptx = kept.join(format!("{stem}-{:016x}.ptx", digest.finish()));
        sources.push(Source { path, op, tier, arch, ptx });
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// Digests a file and, once each, the project's headers that it includes.
fn digest_file(
    path: &Path,
    digest: &mut DefaultHasher,
    seen: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    if !seen.insert(path.to_owned()) {
        return Ok(());
    }
    let text = read(path)?;
    (path, &text).hash(digest);
    for line in text.lines() {
        let Some(rest) = line.trim_start().strip_prefix('#') else { continue };
        let Some(rest) = rest.trim_start().strip_prefix("include") else { continue };
        let Some(name) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'))
        else {
            continue;
        };
        let header = path.with_file_name(name.0);
        if header.is_file() {
            digest_file(&header, digest, seen)?;
        }
    }
    Ok(())
}

fn compile(toolkit: &Toolkit, source: &Source) -> Result<()> {
    // Another build may compile the same file: each writes its own, and the rename is atomic.
    let fresh = source.ptx.with_extension(format!("{}.tmp", std::process::id()));
    let output = Command::new(&toolkit.nvcc)
        .args(FLAGS)
        .arg(format!("-arch={}", source.arch))
        .arg(&source.path)
        .arg("-o")
        .arg(&fresh)
        .output()
        .map_err(|error| at(&toolkit.nvcc, &error))?;
    let name = source.path.display();
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    if !output.status.success() {
        return Err(format!(
            "{} cannot compile {name} (FLUX_RT_NVCC names another nvcc, or `off`):\n{said}",
            toolkit.nvcc.display(),
        )
        .into());
    }
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        println!("cargo::warning={name}: {line}");
    }
    let text = read(&fresh)?;
    check_isa(&text, source, toolkit).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
    write(&fresh, &with_short_paths(&text))?;
    fs::rename(&fresh, &source.ptx).map_err(|error| at(&source.ptx, &error))
}

fn check_isa(text: &str, source: &Source, toolkit: &Toolkit) -> Result<()> {
    let found = text.lines().find_map(|line| line.strip_prefix(".version "));
    let number = found.and_then(|found| found.trim().split_once('.'));
    let isa = number.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    if isa.is_some_and(|isa: (u32, u32)| isa <= NEWEST_ISA) {
        return Ok(());
    }
    Err(format!(
        "{} {} compiles {} to PTX ISA {}, which driver 580 does not load: expected at most {}.{}; \
         name the nvcc of CUDA 12.8 to 13.0 in FLUX_RT_NVCC",
        toolkit.nvcc.display(),
        toolkit.version,
        source.path.display(),
        found.unwrap_or("of no version"),
        NEWEST_ISA.0,
        NEWEST_ISA.1,
    )
    .into())
}

/// Line information names files as on this machine; what goes into the program says only where they
/// lie in the project or in the toolkit.
fn with_short_paths(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match line.trim_start().strip_prefix(".file").and_then(|rest| rest.split_once('"')) {
            Some((number, path)) => {
                let path = path.trim_end_matches('"');
                let short = ["/kernels/", "/include/"]
                    .iter()
                    .find_map(|folder| path.rfind(folder).map(|start| &path[start + 1..]));
                out.push_str(&format!("\t.file{number}\"{}\"\n", short.unwrap_or(path)));
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// The names behind `.visible .entry`.
fn entries(ptx: &str) -> Vec<&str> {
    ptx.lines()
        .filter_map(|line| line.trim_start().strip_prefix(".visible .entry "))
        .map(|rest| rest.split('(').next().unwrap_or(rest).trim())
        .collect()
}

fn render(toolkit: Option<&str>, modules: &[Compiled]) -> Result<String> {
    let toolkit = toolkit.map(|version| format!("nvcc {version}"));
    let mut table = format!(
        "/// What compiled the kernels, if anything did.\n\
         pub(crate) const TOOLKIT: Option<&str> = {toolkit:?};\n\n\
         /// Every compiled file of `kernels/`, by name.\n\
         pub(crate) static MODULES: &[Module] = &[\n"
    );
    for (source, path, text) in modules {
        let (op, tier, entries) = (&source.op, source.tier, entries(text));
        writeln!(
            table,
            "    Module {{ op: {op:?}, tier: Tier::{tier}, ptx: include_str!({path:?}), entries: \
             &{entries:?} }},"
        )?;
    }
    table.push_str("];\n");
    Ok(table)
}
