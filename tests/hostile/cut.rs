//! Model files that another program cuts while they are mapped.

use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use flux_rt::files;
use flux_rt::files::File;
use flux_rt::model::config::VaeConfig;
use flux_rt::model::weights::checkpoint::Checkpoint;
use flux_rt::model::weights::dtype::WeightDtype;
use flux_rt::model::weights::naming::Component;
use flux_rt::model::weights::reader::Reader;
use flux_rt::model::weights::vae::VaeWeights;

use crate::alone;
use crate::demo::Demo;

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

fn cut(path: &Path, length: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[test]
fn the_library_asks_whether_a_file_is_whole() {
    let demo = Demo::new();
    let file = "vae/diffusion_pytorch_model.safetensors";
    let config = VaeConfig::read(&File::Disk(demo.path().join("vae/config.json"))).unwrap();
    let original = Demo::original(file);
    // In the midst of a tensor, where the rest of a page would read as zeros.
    for length in [original.len() - 1, original.len() / 2, 100, 0] {
        demo.put(file, &[&original]);
        let path = demo.path().join(file);
        let checkpoint = Checkpoint::open(&File::Disk(path.clone())).unwrap();
        let mut reader = Reader::new(&checkpoint, Component::Vae).unwrap();
        cut(&path, u64::try_from(length).unwrap());
        let error = VaeWeights::load(&mut reader, &config, WeightDtype::F32).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        let text = error.to_string();
        assert!(
            text.contains("cut while it was read") && text.contains(&format!("found {length}")),
            "{text}"
        );
    }
}

#[expect(clippy::print_stderr, reason = "what the other process tells is read from there")]
fn tell() {
    files::tell_of_cut_files(|page| {
        eprintln!("told: {}", page.reason());
        3
    });
}

/// Not a test of its own: what [`a_lost_page_ends_the_process_with_words`] runs in another process.
#[test]
fn reads_a_lost_page() {
    let Some(path) = std::env::var_os("FLUX_RT_CUT_TEST_FILE") else { return };
    tell();
    let bytes = files::map(Path::new(&path)).unwrap();
    cut(Path::new(&path), 5000);
    let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
    panic!("read {sum}");
}

/// Runs one of the tests here in a process of its own, with the file that it is about.
#[cfg(target_os = "linux")]
fn run(test: &str, path: &Path) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env("FLUX_RT_CUT_TEST_FILE", path);
    child.output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_lost_page_ends_the_process_with_words() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    // A path need not be UTF-8.
    for name in [b"a file".as_slice(), b"caf\xe9"] {
        let path = folder.path().join(std::ffi::OsStr::from_bytes(name));
        files::write_atomic(&path, &[1; 20_000]).unwrap();
        let output = run("cut::reads_a_lost_page", &path);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let told = format!(
            "told: {}: cut while it was read: expected at least 8193 bytes, found 5000",
            path.display()
        );
        assert!(stderr.contains(&told), "{stderr}");
    }
}

/// Not a test of its own: what [`a_signal_that_was_sent_ends_the_process`] runs in another process.
#[cfg(target_os = "linux")]
#[test]
fn waits_for_a_signal() {
    let Some(path) = std::env::var_os("FLUX_RT_CUT_TEST_FILE") else { return };
    tell();
    files::write_atomic(Path::new(&path), b"ready").unwrap();
    thread::sleep(Duration::from_secs(20));
    panic!("outlived the signal");
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_sent_ends_the_process() {
    use std::os::unix::process::ExitStatusExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ready");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "cut::waits_for_a_signal"]).env("FLUX_RT_CUT_TEST_FILE", &path);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !path.exists() {
        thread::sleep(Duration::from_millis(10));
    }
    let number = child.id().to_string();
    assert!(Command::new("kill").args(["-BUS", &number]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().signal(), Some(7), "SIGBUS, as without a handler");
}

fn start(demo: &Demo) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flux-rt"));
    command.args([
        "run", "--device", "cpu", "--prompt", "x", "--steps", "1", "--width", "32", "--height",
        "16",
    ]);
    command
        .args(["--overwrite", "--model"])
        .arg(demo.path())
        .arg("--out")
        .arg(demo.path().join("out"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Fails for an end that says nothing; whether the program noticed.
fn told(output: &Output, moment: &str) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => false,
        Some(3) if stderr.contains(TRANSFORMER) && !stderr.contains("panicked") => true,
        _ => panic!("{moment}: {:?}, {stderr}", output.status),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_model_cut_at_any_moment_is_told() {
    let _alone = alone();
    let demo = Demo::new();
    let path = demo.path().join(TRANSFORMER);
    let original = Demo::original(TRANSFORMER);
    let mut noticed = 0;
    for milliseconds in (0..300).step_by(10) {
        demo.put(TRANSFORMER, &[&original]);
        let child = start(&demo);
        thread::sleep(Duration::from_millis(milliseconds));
        cut(&path, if milliseconds % 20 == 0 { 0 } else { 9_000_001 });
        let output = child.wait_with_output().unwrap();
        noticed += usize::from(told(&output, &format!("cut after {milliseconds} ms")));
    }
    println!("{noticed} of 30 programs noticed; the others had read the file");
    assert!(noticed > 0, "the first moments are before the file is read");
}
