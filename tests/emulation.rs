//! Kernels on the CPU, those with products of matrices, with statistics or of the cache: g++ compiles the
//! `.cu` files against `tools/cuda_emulator`, which runs them over ragged shapes with guard pages,
//! poisoned copies and warps in random order.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a helper of a test may fail it or say why it skips"
)]

use std::path::Path;
use std::process::Command;

/// The toolkit whose headers the kernels include: the folder above ptxas's.
fn toolkit() -> Option<&'static Path> {
    option_env!("FLUX_RT_PTXAS").map(Path::new)?.parent()?.parent()
}

fn emulate(test: &str) {
    let compiler = Command::new("g++").arg("--version").output();
    let (Some(toolkit), Ok(_)) = (toolkit(), compiler) else {
        return println!("skipped: needs g++ and the CUDA headers that the build found");
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/cuda_emulator/build.sh");
    let output = Command::new("bash").args([script, test]).env("CUDA_HOME", toolkit).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && last == "ALL OK", "{test}: {last}\n{complaint}");
}

#[test]
fn add_scaled_and_taylor() {
    emulate("test_taylor");
}

#[test]
fn attention() {
    emulate("test_attention");
}

#[test]
fn attention_fp8() {
    emulate("test_attention_fp8");
}

#[test]
fn conv2d() {
    emulate("test_conv2d");
}

#[test]
fn gemm() {
    emulate("test_gemm");
}

#[test]
fn gemm_fp8() {
    emulate("test_gemm_fp8");
}

#[test]
fn gemm_qkv() {
    emulate("test_gemm_qkv");
}

#[test]
fn gemm_qkv_fp8() {
    emulate("test_gemm_qkv_fp8");
}

#[test]
fn groupnorm_silu() {
    emulate("test_groupnorm_silu");
}

#[test]
fn layernorm_layernorm_modulate_and_rmsnorm() {
    emulate("test_norms");
}

#[test]
fn residual_diff() {
    emulate("test_residual_diff");
}

#[test]
fn quantize() {
    emulate("test_quantize");
}

#[test]
fn quantize_qkv() {
    emulate("test_quantize_qkv");
}
