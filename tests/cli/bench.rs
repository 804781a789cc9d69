//! `bench` on the CPU.

use crate::Answer;
use crate::Desk;
use crate::SMALL;
use crate::golden;

fn bench(args: &[&str]) -> Answer {
    let model = golden("schnell").to_string_lossy().into_owned();
    let start = ["bench", "--model", &model, "--device", "cpu"].into_iter().chain(SMALL);
    Desk::new().call(start.chain(args.iter().copied()).map(str::to_owned))
}

#[test]
fn bench_tells_programs_what_it_measured() {
    let answer = bench(&["--runs", "3", "--warmup", "0", "--json"]);
    let json = answer.succeeds().json();
    assert_eq!((json["runs"].as_u64(), json["steps"].as_u64()), (Some(3), Some(2)));
    assert_eq!((json["width"].as_u64(), json["height"].as_u64()), (Some(48), Some(32)));
    assert!(json["load_ms"].as_f64().unwrap() > 0.0);
    let phase = |name: &str, of: &str| json["phases"][name][of].as_f64().unwrap();
    for name in ["encode_ms", "prepare_ms", "denoise_ms", "step_ms", "decode_ms", "whole_image_ms"]
    {
        let [min, median, max] = ["min", "median", "max"].map(|of| phase(name, of));
        assert!(0.0 < min && min <= median && median <= max, "{name}: {min} {median} {max}");
    }
    assert!(phase("whole_image_ms", "min") >= phase("denoise_ms", "min"));
    // What only a GPU has.
    for name in ["kernels", "gpu", "peak_memory_bytes", "load_gb_per_s"] {
        assert!(json[name].is_null(), "{name}");
    }
}

#[test]
fn bench_tells_people_in_a_table() {
    let answer = bench(&["--runs", "1", "--warmup", "0"]);
    answer.succeeds();
    for part in ["mode XL, cache none, 48x32, 2 steps", "median ms", "denoise", "whole image"] {
        assert!(answer.stdout.contains(part), "no `{part}` in {}", answer.stdout);
    }
}

#[test]
fn bench_prints_the_tuning_table() {
    let answer = bench(&["--kernels"]);
    for part in ["gemm_sm90_128x256", "portable", "cluster 2", "three waves"] {
        assert!(answer.succeeds().stdout.contains(part), "no `{part}` in {}", answer.stdout);
    }
}

#[test]
fn bench_refuses_what_cannot_be() {
    bench(&["--runs", "0"]).fails(2, &["--runs", "1 or more"]);
    Desk::new()
        .call(["bench", "--device", "cpu", "--width", "17"])
        .fails(2, &["--width", "multiple of 16"]);
    Desk::new()
        .call(["bench", "--model", "synthetic:flux-dev", "--device", "cpu"])
        .fails(6, &["needs a CUDA device"]);
    Desk::new().call(["bench", "--model", "synthetic:flux"]).fails(4, &["synthetic:flux-dev"]);
}
