//! What goes wrong before a model is loaded: typos, bad values, missing files, unwritable places.

use crate::Desk;
use crate::golden;

#[test]
fn typos_are_answered_with_what_was_meant() {
    let desk = Desk::new();
    desk.call(["run", "--widht", "64"]).fails(2, &["--widht", "--width"]);
    desk.call(["rum"]).fails(2, &["rum", "run"]);
    desk.call(["run", "a red apple"])
        .fails(2, &["a red apple", "hint: a prompt goes after --prompt"]);
    desk.call(["run", "--cache", "agressive"]).fails(2, &["did you mean aggressive?"]);
}

#[test]
fn bad_values_name_their_flag_and_what_would_be_right() {
    let desk = Desk::new();
    for (flag, value, expected) in [
        ("--mode", "fast", "expected one of original, XL, L, M, S or a plan file"),
        ("--cache", "x", "expected none, conservative, aggressive or a .toml file, found `x`"),
        ("--rng", "numpy", "torch-cpu-legacy"),
        ("--rng-grid", "0", "1 to 65536"),
        ("--rng-grid", "a100", "h100"),
        ("--device", "tpu", "expected auto, cpu, cuda or cuda:N"),
        ("--device", "cuda:x", "expected auto, cpu, cuda or cuda:N"),
        ("--dtype", "f16", "[possible values: auto, f32, bf16]"),
        ("--progress", "loud", "[possible values: auto, bar, json, none]"),
        (
            "--width",
            "100",
            "expected a multiple of 16 from 16 to 8192 pixels, found 100; 96 or 112",
        ),
        ("--width", "0", "expected a multiple of 16"),
        ("--height", "16400", "found 16400"),
        ("--width", "-16", "expected a whole number"),
        ("--height", "64.0", "expected a whole number"),
        ("--width", "99999999999999999999", "too large"),
        ("--steps", "0", "expected 1 to 1000, found 0"),
        ("--guidance", "nan", "expected 0 to 100"),
        ("--guidance", "-1", "expected 0 to 100"),
        ("--guidance", "much", "expected a number"),
        ("--seed", "-1", "expected a whole number"),
        ("--count", "0", "expected 1 to 1000000 pictures"),
        ("--count", "9999999999999", "expected 1 to 1000000 pictures"),
        ("--max-sequence-length", "0", "expected 1 to 512"),
    ] {
        desk.call(["run", flag, value]).fails(2, &["error: ", flag, expected]);
    }
    assert!(!desk.path("out").exists(), "nothing is left behind");
}

#[test]
fn what_excludes_each_other_is_refused() {
    let desk = Desk::new();
    desk.call(["run", "--dtype", "f32", "--device", "cuda"]).fails(2, &["--dtype", "f32"]);
    desk.call(["run", "--mode", "no.json"]).fails(2, &["--mode", "no plan file no.json"]);
    desk.call(["run", "--rng", "torch-cpu", "--rng-grid", "h100"]).fails(2, &["--rng-grid"]);
    desk.call(["run", "--prompt", "a", "--prompt-file", "b"]).fails(2, &["--prompt-file", "both"]);
    desk.call(["run", "--seed", "18446744073709551615", "--count", "2"]).fails(2, &["--seed"]);
    let schnell = golden("schnell");
    let model = schnell.to_string_lossy();
    let answer = desk.call(["run", "--model", &*model, "--guidance", "3", "--width", "32"]);
    answer.fails(2, &["error: --guidance: this model has no guidance embedding"]);
}

#[test]
fn a_gpu_that_is_not_there_is_said_clearly() {
    let desk = Desk::new();
    desk.call(["run", "--device", "cuda"]).fails(6, &["error: ", "cuda:0", "--device cpu"]);
}

#[test]
fn a_missing_model_tells_where_it_was_searched_and_what_to_do() {
    let desk = Desk::new();
    let answer = desk.call(["run", "--model", "black-forest-labs/FLUX.1-dev"]);
    answer.fails(
        4,
        &[".cache/huggingface/hub", "hint: ", "hf download black-forest-labs/FLUX.1-dev"],
    );
    desk.call(["run", "--model", "models/nothing-here.safetensors"]).fails(4, &["nothing-here"]);
    desk.call(["inspect", "nothing-here"]).fails(4, &["nothing-here"]);
}

#[test]
fn a_broken_model_is_exit_code_3() {
    let desk = Desk::new();
    let file = desk.file("model.safetensors", b"not safetensors at all");
    let path = file.to_string_lossy();
    desk.call(["run", "--model", &*path]).fails(3, &["model.safetensors"]);
    desk.call(["inspect", &*path]).fails(3, &["model.safetensors"]);
    let file = desk.file("picture.png", b"\x89PNG\r\n\x1a\nand nothing else");
    desk.call(["inspect", &*file.to_string_lossy()]).fails(3, &["picture.png"]);
    let file = desk.file("notes.txt", b"hello");
    desk.call(["inspect", &*file.to_string_lossy()]).fails(3, &["notes.txt", "safetensors"]);
}

#[test]
fn an_unwritable_place_is_found_before_the_model_is_loaded() {
    let desk = Desk::new();
    desk.file("file", b"");
    for out in ["file", "file/folder", "file/a.png", "file/deep/er/a.png"] {
        // The model does not exist either: the place comes first.
        let answer = desk.call(["run", "--model", "org/none", "--out", out]);
        answer.fails(8, &["cannot write", "hint: choose another place with --out"]);
    }
    let args = ["run", "--model", "org/none", "--save-latents", "file/l.safetensors"];
    desk.call(args).fails(8, &["file"]);
    let answer = desk.call(["run", "--model", "org/none", "--out", "/proc/flux-rt"]);
    answer.fails(8, &["/proc/flux-rt"]);
    assert!(!answer.stderr.contains(".flux-rt-"), "no temporary name in {}", answer.stderr);
}

#[test]
fn outputs_that_do_not_fit_are_refused() {
    let desk = Desk::new();
    desk.file("a.png", b"precious");
    desk.call(["run", "--out", "a.png"]).fails(2, &["--out", "a.png", "--overwrite"]);
    desk.call(["run", "--out", "b.png", "--count", "2"]).fails(2, &["a folder for 2 pictures"]);
    desk.call(["run", "--out", "b.jpg"]).fails(2, &["a .png file", "b.jpg"]);
    desk.call(["run", "--save-latents", "a.png"]).fails(2, &["--save-latents", "--overwrite"]);
    let same = ["run", "--out", "c.png", "--save-latents", "c.png"];
    desk.call(same).fails(2, &["--save-latents", "another file than --out"]);
    assert_eq!(flux_rt::files::read_text(&desk.path("a.png")).unwrap(), "precious");
}

#[test]
fn prompt_files_must_hold_prompts() {
    let desk = Desk::new();
    desk.call(["run", "--prompt-file", "missing"]).fails(2, &["--prompt-file", "missing"]);
    desk.file("empty", b"\n# nothing\n");
    desk.call(["run", "--prompt-file", "empty"]).fails(2, &["--prompt-file", "found only blank"]);
    desk.file("latin", b"fine\ncaf\xe9\n");
    desk.call(["run", "--prompt-file", "latin"]).fails(2, &["line 2", "UTF-8"]);
    desk.call(["run", "--prompt-file", "-"]).fails(2, &["--prompt-file: stdin"]);
}

#[test]
fn latents_files_must_hold_latents_that_fit() {
    let desk = Desk::new();
    desk.call(["run", "--latents", "missing"]).fails(2, &["--latents", "missing"]);
    desk.file("broken", b"broken");
    desk.call(["run", "--latents", "broken"]).fails(3, &["broken"]);
}

#[test]
fn a_value_from_a_variable_is_said_to_be() {
    let desk = Desk::new();
    let mut command = desk.command(["run"]);
    let answer = command.env("FLUX_RT_CACHE", "some").output().unwrap();
    crate::Answer::from(answer)
        .fails(2, &["--cache", "hint: the value comes from the variable FLUX_RT_CACHE"]);
}

#[test]
fn with_json_progress_an_error_is_json_as_well() {
    let answer = Desk::new().call(["run", "--progress", "json", "--width", "1"]);
    answer.fails(2, &[]);
    let event: serde_json::Value = serde_json::from_str(&answer.stderr).unwrap();
    assert_eq!(event["event"], "error");
    assert_eq!(event["exit_code"], 2);
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8_are_no_panic() {
    use std::os::unix::ffi::OsStrExt as _;
    let desk = Desk::new();
    let name = std::ffi::OsStr::from_bytes(b"\xff");
    let mut command = desk.command([std::ffi::OsStr::new("run"), "--out".as_ref(), name]);
    let output = command.env("FLUX_RT_WIDTH", "abc").output().unwrap();
    crate::Answer::from(output).fails(2, &["--width", "FLUX_RT_WIDTH"]);
}
