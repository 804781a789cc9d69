//! What a crash, a full disk and other programs at work in the same folder leave behind.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use flux_rt::files;
use flux_rt::pipeline::Metadata;
use flux_rt::pipeline::image::decode_png;
use serde_json::Value;

use crate::Answer;
use crate::Desk;
use crate::golden;

/// As small as pictures get, so that the program writes most of the time.
const SMALLEST: [&str; 10] =
    ["--device", "cpu", "--width", "16", "--height", "16", "--steps", "1", "--progress", "none"];

/// Every picture in a folder is whole, with its settings; how many there are, and how many files are left over.
fn sound(folder: &Path) -> [usize; 2] {
    let mut found = [0; 2];
    for name in files::list(folder).unwrap_or_default() {
        if name.starts_with('.') {
            found[1] += 1;
            continue;
        }
        let path = folder.join(&name);
        let bytes = files::map(&path).unwrap();
        let (image, texts) = decode_png(&bytes, &path).unwrap();
        assert_eq!(image.data.len(), 16 * 16 * 3, "{name}");
        let (_, json) = texts.iter().find(|(keyword, _)| keyword == "flux-rt").unwrap();
        Metadata::from_json(json, &path).unwrap();
        found[0] += 1;
    }
    found
}

/// Moments from a third of `whole` to twice that, which look random and are the same shares every time.
fn moments(count: u32, whole: Duration) -> impl Iterator<Item = Duration> {
    (1..=count).map(move |k| whole.mul_f64(0.3 + 1.7 * f64::from(k * 7_919 % 997) / 997.0))
}

#[test]
fn killed_at_any_moment_it_leaves_whole_files_and_one_temporary_at_most() {
    let desk = Desk::new();
    let model = golden("schnell").to_string_lossy().into_owned();
    let (mut pictures, mut whole) = (0, 0);
    // How long one picture takes here and now, so that some are killed before it and some behind.
    let run = ["run", "--model", &model, "--prompt", "a fox", "--out", "one"];
    let start = Instant::now();
    desk.call(run.iter().chain(&SMALLEST)).succeeds();
    let took = start.elapsed();
    for (k, moment) in moments(150, 2 * took).enumerate() {
        let out = format!("out{k}");
        let run = ["run", "--model", &model, "--prompt", "a fox", "--count", "1000", "--out", &out];
        let mut command = desk.command(run.iter().chain(&SMALLEST));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let [found, left] = sound(&desk.path(&out));
        assert!(left <= 1, "{left} temporary files after {moment:?}");
        pictures += found;
    }
    for (k, moment) in moments(60, 3 * took).enumerate() {
        let out = format!("results{k}");
        let run = ["compare", "--model", &model, "--modes", "XL", "--caches", "none"];
        let more = ["--prompt", "a", "b", "c", "d", "e", "f", "g", "h", "--out", &out];
        let mut command = desk.command(run.iter().chain(&more).chain(&SMALLEST));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let folder = desk.path(&out);
        let [_, left] = sound(&folder.join("pictures"));
        let names = files::list(&folder).unwrap_or_default();
        let left = left + names.iter().filter(|name| name.starts_with('.')).count();
        assert!(left <= 1, "{left} temporary files after {moment:?}: {names:?}");
        if let Ok(text) = files::read_text(&folder.join("results.json")) {
            let results: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(results["schema_version"], 1);
            whole += 1;
        }
    }
    assert!(pictures > 0 && whole > 0, "{pictures} pictures and {whole} documents were there");
}

#[test]
fn a_disk_that_is_full_is_named_and_nothing_half_is_left() {
    let desk = Desk::new();
    let model = golden("schnell").to_string_lossy().into_owned();
    let program = env!("CARGO_BIN_EXE_flux-rt");
    // No file may grow beyond 512 bytes: the write fails in the middle, as on a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 1; exec {program} run --model '{model}' --prompt fox --out out {}",
        SMALLEST.join(" ")
    );
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).current_dir(desk.path("."));
    let answer: Answer = command.output().unwrap().into();
    answer.fails(8, &["out/0001-fox-s0.png", "cannot write"]);
    assert_eq!(sound(&desk.path("out")), [0, 0]);
}

/// What `flux-rt ARGUMENTS` answers where `out` is a file system of its own; what is there afterwards lies in
/// `kept`. None where this user may not mount one.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn on_file_system(desk: &Desk, options: &str, arguments: &str) -> Option<Answer> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).current_dir(desk.path(".")).output()
    };
    let mount = format!("mkdir out && mount -t tmpfs -o {options} tmpfs out");
    if !unshare(&format!("{mount} && umount out && rmdir out"))
        .is_ok_and(|did| did.status.success())
    {
        println!("skipped: no file system can be mounted here");
        return None;
    }
    let program = env!("CARGO_BIN_EXE_flux-rt");
    let script = format!("{mount}; {program} {arguments}; code=$?; cp -r out kept; exit $code");
    Some(unshare(&script).unwrap().into())
}

#[test]
fn a_full_file_system_keeps_the_pictures_that_it_has() {
    let model = golden("schnell");
    let (model, smallest) = (model.to_string_lossy(), SMALLEST.join(" "));
    let desk = Desk::new();
    let run = format!("run --model '{model}' --prompt fox --count 1000 --out out {smallest}");
    let Some(answer) = on_file_system(&desk, "size=100k", &run) else { return };
    answer.ends_early(8, &["cannot write out/", ".png: No space left on device"]);
    let [pictures, left] = sound(&desk.path("kept"));
    assert!(pictures > 3 && left == 0, "{pictures} pictures, {left} temporary files");
    assert_eq!(answer.stdout.lines().count(), pictures, "every picture was told, and no other");

    let desk = Desk::new();
    let compare =
        format!("compare --model '{model}' --modes XL --caches none --out out {smallest}");
    let answer = on_file_system(&desk, "size=20k", &compare).unwrap();
    answer.ends_early(8, &["out/", "cannot write", "No space left on device"]);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let desk = Desk::new();
    let model = golden("schnell");
    let (model, smallest) = (model.to_string_lossy(), SMALLEST.join(" "));
    let run = format!("run --model '{model}' --prompt fox --out out {smallest}");
    let Some(answer) = on_file_system(&desk, "ro", &run) else { return };
    answer.fails(8, &["cannot write out: ", "read-only filesystem"]);
}

#[test]
fn programs_at_work_in_one_folder_never_replace_each_others_pictures() {
    let desk = Desk::new();
    let model = golden("schnell").to_string_lossy().into_owned();
    let run = ["run", "--model", &model, "--prompt", "a fox", "--count", "10", "--out", "out"];
    let start = |_| {
        let mut command = desk.command(run.iter().chain(&SMALLEST));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..6).map(start).collect();
    let mut said: Vec<String> = Vec::new();
    for child in children {
        let answer: Answer = child.wait_with_output().unwrap().into();
        answer.succeeds();
        said.extend(answer.stdout.lines().map(str::to_owned));
    }
    said.sort();
    said.dedup();
    assert_eq!((said.len(), sound(&desk.path("out"))), (60, [60, 0]));
}
