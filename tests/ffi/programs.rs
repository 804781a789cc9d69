//! Programs that use the library, built with plain `cc` and `c++`, and Python's ctypes.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use flux_rt::files;
use flux_rt::pipeline::image::decode_png;
use tempfile::TempDir;

/// What libflux_rt.a needs of the system; `include/flux-rt.pc` has the same.
const SYSTEM: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

/// The library of this build, `a` or `so`.
fn library(kind: &str) -> PathBuf {
    // Where cargo builds it, before `cargo build` copies it beside the program.
    let folder = Path::new(env!("CARGO_BIN_EXE_flux-rt")).parent().unwrap().join("deps");
    let library = folder.join(format!("libflux_rt.{kind}"));
    assert!(library.is_file(), "{} is not there", library.display());
    library
}

fn golden(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(model)
}

/// Builds sources of the repository with the static library, or the shared one.
fn build(temp: &TempDir, compiler: &[&str], sources: &[&str], kind: &str) -> PathBuf {
    let program = temp.path().join(format!("program-{kind}"));
    let mut command = Command::new(compiler[0]);
    command.args(&compiler[1..]).args(["-Wall", "-Wextra", "-Werror", "-Iinclude", "-o"]);
    command.arg(&program).args(sources).args(["-x", "none"]).arg(library(kind)).args(SYSTEM);
    let built = command.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
}

fn run(command: &mut Command) -> Vec<u8> {
    let answer = command.env("CUDA_VISIBLE_DEVICES", "").output().unwrap();
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "{:?}: {said}", answer.status);
    assert_eq!(said, "", "nothing is written but by the caller");
    answer.stdout
}

#[test]
fn the_shortest_program_draws_an_apple_in_c_and_in_cpp() {
    let source = files::read_text(Path::new("examples/c/apple.c")).unwrap();
    let lines = source.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines < 20, "{lines} lines");
    for (compiler, kind) in [
        (["cc", "-std=c99"].as_slice(), "a"),
        (["cc", "-std=c99"].as_slice(), "so"),
        (["c++", "-x", "c++"].as_slice(), "a"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let program = build(&temp, compiler, &["examples/c/apple.c"], kind);
        // The system looks for the shared library under the name that is in it.
        std::os::unix::fs::symlink(library("so"), temp.path().join("libflux_rt.so.0")).unwrap();
        let mut command = Command::new(program);
        // The built-in model may be left out; there it is a folder.
        command.env("LD_LIBRARY_PATH", temp.path()).current_dir(env!("CARGO_MANIFEST_DIR"));
        let png = run(&mut command);
        let (apple, _) = decode_png(&png, Path::new("apple.png")).unwrap();
        assert_eq!([apple.width, apple.height], [128, 128]);
        let middle = &apple.data[(64 * 128 + 64) * 3..][..3];
        assert!(middle[0] > 200 && middle[1] < 110 && middle[2] < 110, "{middle:?}");
    }
}

/// The lines of include/flux-rt.pc by their names.
fn pkg_config_file() -> BTreeMap<String, String> {
    let text = files::read_text(Path::new("include/flux-rt.pc")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn pkg_config_links_the_static_library() {
    let file = pkg_config_file();
    assert_eq!(file["Version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(file["Libs"], format!("-L${{libdir}} -l:libflux_rt.a {}", SYSTEM.join(" ")));
    let mut command = Command::new("pkg-config");
    command.args(["--cflags", "--libs", "flux-rt"]);
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    // Without it what was read above has to do.
    let Ok(answer) = command.env("PKG_CONFIG_PATH", &include).output() else { return };
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let said = String::from_utf8(answer.stdout).unwrap();
    assert!(said.starts_with("-I") && said.contains(" -l:libflux_rt.a "), "{said}");
}

#[test]
fn every_function_keeps_its_word_in_c() {
    let temp = tempfile::tempdir().unwrap();
    let sources = ["tests/ffi/check.c", "tests/ffi/misuse.c", "tests/ffi/threads.c"];
    let program = build(&temp, &["cc", "-std=c11", "-D_GNU_SOURCE"], &sources, "a");
    assert_eq!(run(Command::new(program).arg(golden("dev"))), b"");
}

#[test]
fn ctypes_reaches_it() {
    let mut command = Command::new("python3");
    command.arg("tests/ffi/check.py").arg(library("so")).arg(golden("dev"));
    let size: usize = String::from_utf8(run(&mut command)).unwrap().trim().parse().unwrap();
    assert!(size > 1000, "{size} bytes");
}
