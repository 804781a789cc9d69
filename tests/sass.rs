//! The machine code of the Hopper kernels: what their speed rests on is really in it. Runs where
//! `cuobjdump` is: named by `FLUX_RT_CUOBJDUMP`, beside ptxas, or in `PATH`.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

use std::path::PathBuf;
use std::process::Command;

#[path = "../src/device/modules.rs"]
mod modules;

use modules::MODULES;
use modules::Module;
use modules::Tier;

fn tool(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let beside =
        option_env!("FLUX_RT_PTXAS").map(|ptxas| PathBuf::from(ptxas).with_file_name(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    named.into_iter().chain(beside).chain(in_path).find(|path| path.is_file())
}

/// Names of the kernels in a module and the operations of each, in order.
fn disassemble(
    ptxas: &PathBuf,
    cuobjdump: &PathBuf,
    module: &Module,
) -> Vec<(String, Vec<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let [ptx, cubin] = ["module.ptx", "module.cubin"].map(|name| folder.path().join(name));
    #[expect(clippy::disallowed_methods, reason = "a scratch file of the test")]
    std::fs::write(&ptx, module.ptx).unwrap();
    let assembled =
        Command::new(ptxas).arg("-arch=sm_90a").arg(&ptx).arg("-o").arg(&cubin).status().unwrap();
    assert!(assembled.success(), "{} does not assemble", module.op);
    let output = Command::new(cuobjdump).arg("-sass").arg(&cubin).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut kernels: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some((_, name)) = line.split_once("Function : ") {
            kernels.push((name.trim().to_owned(), Vec::new()));
        }
        // `        /*0010*/                   @!P0 HGMMA.64x256x16.F32.BF16 R24, gdesc[UR4] ;`
        let Some(rest) = line.trim_start().strip_prefix("/*") else { continue };
        let Some((address, rest)) = rest.split_once("*/") else { continue };
        let words = rest.split_whitespace().find(|word| !word.starts_with('@'));
        if let (true, Some(word), Some((_, operations))) =
            (address.len() >= 4, words, kernels.last_mut())
        {
            operations.push(word.trim_end_matches(';').to_owned());
        }
    }
    kernels
}

#[test]
fn hopper_kernels_multiply_in_unbroken_runs_and_keep_to_registers() {
    let tools = (tool("FLUX_RT_PTXAS", "ptxas"), tool("FLUX_RT_CUOBJDUMP", "cuobjdump"));
    let (Some(ptxas), Some(cuobjdump)) = tools else {
        return println!("skipped: no ptxas or no cuobjdump; FLUX_RT_CUOBJDUMP names one");
    };
    for module in MODULES.iter().filter(|module| module.tier == Tier::Sm90) {
        let kernels = disassemble(&ptxas, &cuobjdump, module);
        assert_eq!(kernels.len(), module.entries.len(), "{}", module.op);
        for (name, operations) in kernels {
            let is = |operation: &String, what: &str| operation.split('.').next() == Some(what);
            let count = |what: &str| operations.iter().filter(|one| is(one, what)).count();
            // Of bf16, or of fp8.
            let product = |operation: &String| is(operation, "HGMMA") || is(operation, "QGMMA");
            // Between two products of a run nothing waits for the tensor cores.
            let marks: Vec<&String> =
                operations.iter().filter(|one| product(one) || is(one, "WARPGROUP")).collect();
            let runs = marks.chunk_by(|a, b| product(a) == product(b));
            let longest = runs.filter(|run| product(run[0])).map(<[&String]>::len).max();
            let products = operations.iter().filter(|one| product(one)).count();
            println!("{name}: {} operations, {products} products", operations.len());
            assert_eq!(count("LDL") + count("STL"), 0, "{name}: local memory");
            // Those that only convert have this tier for its conversions.
            if ["layernorm_modulate", "quantize_qkv"].contains(&module.op) {
                assert!(count("F2FP") > 0, "{name}: no conversions");
                continue;
            }
            assert!(count("UTMALDG") > 0, "{name}: no bulk copies");
            assert!(longest.is_some_and(|run| run >= 4), "{name}: products in runs of {longest:?}");
        }
    }
}
