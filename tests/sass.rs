//! The machine code of the Hopper and the e4m3 kernels: what their speed rests on is really in it.
//! Runs where `cuobjdump` is: named by `FLUX_RT_CUOBJDUMP`, beside ptxas, or in `PATH`.
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

/// ptxas and cuobjdump.
fn tools() -> Option<[PathBuf; 2]> {
    Some([tool("FLUX_RT_PTXAS", "ptxas")?, tool("FLUX_RT_CUOBJDUMP", "cuobjdump")?])
}

const SKIPPED: &str = "skipped: no ptxas or no cuobjdump; FLUX_RT_CUOBJDUMP names one";

/// Names of the kernels in a module and the operations of each, in order.
fn disassemble(
    ptxas: &PathBuf,
    cuobjdump: &PathBuf,
    module: &Module,
    arch: &str,
) -> Vec<(String, Vec<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let [ptx, cubin] = ["module.ptx", "module.cubin"].map(|name| folder.path().join(name));
    #[expect(clippy::disallowed_methods, reason = "a scratch file of the test")]
    std::fs::write(&ptx, module.ptx).unwrap();
    let arch = format!("-arch={arch}");
    let assembled = Command::new(ptxas).arg(arch).arg(&ptx).arg("-o").arg(&cubin).status().unwrap();
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
    let Some([ptxas, cuobjdump]) = tools() else { return println!("{SKIPPED}") };
    for module in MODULES.iter().filter(|module| module.tier == Tier::Sm90) {
        let kernels = disassemble(&ptxas, &cuobjdump, module, "sm_90a");
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
            assert!(count("UTMALDG") > 0, "{name}: no bulk copies");
            assert!(longest.is_some_and(|run| run >= 4), "{name}: products in runs of {longest:?}");
        }
    }
}

#[test]
fn kernels_from_ada_on_compute_and_convert_e4m3_by_instruction() {
    let Some([ptxas, cuobjdump]) = tools() else { return println!("{SKIPPED}") };
    for module in MODULES.iter().filter(|module| module.tier == Tier::Sm89) {
        for (name, operations) in disassemble(&ptxas, &cuobjdump, module, "sm_89") {
            let count = |what: &str| operations.iter().filter(|one| one.starts_with(what)).count();
            let (products, local) = (count("QMMA.16832.F32.E4M3"), count("LDL") + count("STL"));
            println!("{name}: {} operations, {products} products", operations.len());
            assert_eq!(local, 0, "{name}: local memory");
            match module.op.ends_with("_fp8") {
                true => assert!(products > 0, "{name}: no products"),
                false => {
                    assert!(count("F2FP.SATFINITE.E4M3") > 0, "{name}: no conversions");
                }
            }
        }
    }
}
