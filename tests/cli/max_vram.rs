//! `--max-vram`: where it is refused, and where it says that it does nothing.

use crate::Desk;

#[test]
fn a_number_of_gigabytes_is_expected() {
    let desk = Desk::new();
    for verb in ["run", "bench"] {
        for value in ["0", "-1", "22GB", "nan", "inf", "", "99999999"] {
            let answer = desk.call([verb, "--max-vram", value]);
            answer.fails(2, &["error: ", "--max-vram", "expected GB", "such as 22 or 15.5"]);
        }
    }
}

#[test]
fn the_cpu_has_no_such_memory() {
    let desk = Desk::new();
    for verb in ["run", "bench"] {
        let answer = desk.call([verb, "--max-vram", "22", "--device", "cpu"]);
        answer.fails(2, &["error: --max-vram: expected a GPU", "found --device cpu"]);
    }
    // Without a GPU it may stand in a script or in the variable all the same.
    let answer = desk.small_run("dev", &["--prompt", "x", "--max-vram", "15.5"]);
    answer.succeeds();
    let note = "note: --max-vram is about GPUs; this computes on the CPU";
    assert!(answer.stderr.contains(note), "{}", answer.stderr);
}
