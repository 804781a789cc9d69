//! Finds nvcc, or fetches it: `FLUX_RT_NVCC`, `CUDA_HOME`, `CUDA_PATH`, `PATH`, `/usr/local/cuda`,
//! and last the wheels that NVIDIA publishes on `PyPI`, kept in the target directory.

use std::env;
use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::at;

/// All of one release: the `nvvm` of a newer one writes PTX that driver 580 refuses.
const WHEELS: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];
/// Where the wheels are unpacked, below the target directory.
const FETCHED: &str = "cuda-13.0";
const PLACES: &str = "CUDA_HOME, CUDA_PATH, PATH or /usr/local/cuda";

/// A working nvcc.
pub(crate) struct Toolkit {
    pub(crate) nvcc: PathBuf,
    /// Such as `13.0.88`.
    pub(crate) version: String,
}

impl Toolkit {
    /// The assembler next to nvcc, if it is there.
    pub(crate) fn ptxas(&self) -> Option<PathBuf> {
        let path = self.nvcc.with_file_name(format!("ptxas{EXE_SUFFIX}"));
        path.is_file().then_some(path)
    }
}

/// The toolkit, or a sentence that says why there is none; fails where `FLUX_RT_NVCC` is wrong.
pub(crate) fn find(target: &Path) -> Result<std::result::Result<Toolkit, String>> {
    for name in ["FLUX_RT_NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let named = env::var_os("FLUX_RT_NVCC").filter(|named| !named.is_empty());
    if named.as_ref().is_some_and(|named| named == "off") {
        return Ok(Err("no kernels, as FLUX_RT_NVCC=off asks".to_owned()));
    }
    if let Some(nvcc) = named.map(PathBuf::from) {
        let version = version(&nvcc).map_err(|reason| {
            format!(
                "FLUX_RT_NVCC={} is no nvcc that runs ({reason}); name the program itself, `off` \
                 for a build without CUDA, or unset it to have nvcc searched in {PLACES}",
                nvcc.display()
            )
        })?;
        return Ok(Ok(Toolkit { nvcc, version }));
    }
    let mut broken = String::new();
    for nvcc in places().into_iter().filter(|nvcc| nvcc.is_file()) {
        match version(&nvcc) {
            Ok(version) => return Ok(Ok(Toolkit { nvcc, version })),
            Err(reason) => broken = format!(" ({} does not run: {reason})", nvcc.display()),
        }
    }
    // Only now: with an nvcc at hand, another PATH is no reason to build again.
    println!("cargo::rerun-if-env-changed=PATH");
    Ok(match fetch(target) {
        Ok(toolkit) => {
            println!(
                "cargo::warning=no nvcc in {PLACES}{broken}, nor named by FLUX_RT_NVCC: using {} \
                 of NVIDIA's PyPI wheels, installed in {}",
                toolkit.version,
                target.join(FETCHED).display()
            );
            Ok(toolkit)
        }
        Err(error) => Err(format!(
            "no nvcc in {PLACES}{broken}, nor named by FLUX_RT_NVCC, and installing NVIDIA's PyPI \
             wheels failed: {error}"
        )),
    })
}

fn places() -> Vec<PathBuf> {
    let program = format!("nvcc{EXE_SUFFIX}");
    let roots = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
    let mut places: Vec<_> =
        roots.map(|root| PathBuf::from(root).join("bin").join(&program)).collect();
    if let Some(path) = env::var_os("PATH") {
        places.extend(env::split_paths(&path).map(|folder| folder.join(&program)));
    }
    places.push(Path::new("/usr/local/cuda/bin").join(&program));
    places
}

/// What `nvcc --version` calls `V13.0.88`, or why it does not say.
fn version(nvcc: &Path) -> std::result::Result<String, String> {
    let output = Command::new(nvcc).arg("--version").output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace()
        .filter_map(|word| word.strip_prefix('V'))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .map(str::to_owned)
        .ok_or_else(|| format!("--version ended with {} and names no version", output.status))
}

/// Installs the wheels below the target directory, once: another build waits at the lock, and the
/// folder appears when it is complete.
fn fetch(target: &Path) -> Result<Toolkit> {
    let folder = target.join(FETCHED);
    let nvcc = folder.join("nvidia/cu13/bin").join(format!("nvcc{EXE_SUFFIX}"));
    let lock = lock(&target.join(format!("{FETCHED}.lock")))?;
    if !nvcc.is_file() {
        let partial = target.join(format!("{FETCHED}.partial"));
        for old in [&folder, &partial] {
            if old.exists() {
                fs::remove_dir_all(old).map_err(|error| at(old, &error))?;
            }
        }
        install(&partial)?;
        fs::rename(&partial, &folder).map_err(|error| at(&folder, &error))?;
    }
    drop(lock);
    let version = version(&nvcc).map_err(|reason| format!("{}: {reason}", nvcc.display()))?;
    Ok(Toolkit { nvcc, version })
}

#[expect(clippy::disallowed_methods, reason = "src/files.rs is not there yet when this runs")]
fn lock(path: &Path) -> Result<fs::File> {
    let file = fs::File::create(path).map_err(|error| at(path, &error))?;
    file.lock().map_err(|error| at(path, &error))?;
    Ok(file)
}

fn install(folder: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:"])
        .args(["--disable-pip-version-check", "--no-warn-script-location"])
        .args(["--timeout=20", "--retries=1", "--target"])
        .arg(folder)
        .args(WHEELS);
    let output = pip.output().map_err(|error| format!("python3: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let reason = text.lines().rev().find(|line| !line.trim().is_empty());
    Err(format!("python3 -m pip: {}", reason.unwrap_or("no message")).into())
}
