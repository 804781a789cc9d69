//! Assembles every embedded PTX with ptxas for the cards that it is for, prints what each kernel
//! needs, and fails where a hot kernel leaves its registers or ptxas undoes its pipeline.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

#[path = "../src/device/modules.rs"]
mod modules;

use modules::MODULES;
use modules::Module;
use modules::Tier;

/// Ops whose time decides a step's: no spill, no local memory.
const HOT: [&str; 11] = [
    "gemm",
    "gemm_fp8",
    "gemm_qkv",
    "gemm_qkv_fp8",
    "attention",
    "attention_fp8",
    "conv2d",
    "layernorm_modulate",
    "add_scaled",
    "residual_diff",
    "taylor",
];

/// ptxas ignores `setmaxnreg`, waits after every wgmma, or adds waits and fences of its own.
const REFUSED: [&str; 8] = ["C7508", "C7510", "C7511", "C7512", "C7513", "C7514", "C7517", "C7519"];

/// What ptxas says of one entry.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Usage {
    entry: String,
    registers: u32,
    smem_bytes: u32,
    stack_bytes: u32,
    spill_bytes: u32,
}

/// A module on one architecture.
struct Report {
    op: &'static str,
    tier: Tier,
    arch: &'static str,
    usages: Vec<Usage>,
    log: String,
}

/// The assembler that `FLUX_RT_PTXAS` names, now or when the kernels were compiled.
fn ptxas() -> Option<PathBuf> {
    let named = std::env::var_os("FLUX_RT_PTXAS").map(PathBuf::from);
    named.or_else(|| option_env!("FLUX_RT_PTXAS").map(PathBuf::from)).filter(|path| path.is_file())
}

fn assemble(ptxas: &PathBuf, module: &Module, arch: &'static str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("module.ptx");
    #[expect(clippy::disallowed_methods, reason = "a scratch file of the test")]
    std::fs::write(&input, module.ptx).unwrap();
    let output = Command::new(ptxas)
        .args(["-v", "--warn-on-spills", "--warn-on-local-memory-usage"])
        .arg(format!("-arch={arch}"))
        .arg(&input)
        .arg("-o")
        .arg(folder.path().join("module.cubin"))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{} does not assemble for {arch}:\n{log}", module.op);
    Report { op: module.op, tier: module.tier, arch, usages: usages(&log), log }
}

/// The number before `unit` in a line such as `Used 40 registers, used 1 barriers, 64 bytes smem`.
fn number_before(line: &str, unit: &str) -> u32 {
    let Some(start) = line.find(unit) else { return 0 };
    line[..start].split_whitespace().next_back().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn usages(log: &str) -> Vec<Usage> {
    let mut usages: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let entry = rest.split('\'').next().unwrap_or_default().to_owned();
            usages.push(Usage { entry, ..Usage::default() });
        }
        let Some(usage) = usages.last_mut() else { continue };
        if line.contains("bytes stack frame") {
            usage.stack_bytes += number_before(line, " bytes stack frame");
            usage.spill_bytes += number_before(line, " bytes spill stores");
            usage.spill_bytes += number_before(line, " bytes spill loads");
        }
        if line.contains("Used ") {
            usage.registers = number_before(line, " registers");
            usage.smem_bytes = number_before(line, " bytes smem");
        }
    }
    usages
}

/// What is wrong with a report, one sentence each.
fn complaints(report: &Report) -> Vec<String> {
    let Report { op, arch, .. } = report;
    let mut found = Vec::new();
    for line in report.log.lines() {
        if REFUSED.iter().any(|code| line.contains(code)) {
            found.push(format!("{op} on {arch}: {}", line.trim()));
        }
    }
    for usage in &report.usages {
        let Usage { entry, stack_bytes, spill_bytes, .. } = usage;
        if HOT.contains(op) && stack_bytes + spill_bytes > 0 {
            found.push(format!(
                "{entry} on {arch}: {spill_bytes} bytes spilled, {stack_bytes} bytes of local \
                 memory, expected none"
            ));
        }
    }
    found
}

#[test]
fn kernels_assemble_within_their_registers() {
    let Some(ptxas) = ptxas() else {
        return println!("skipped: no ptxas; FLUX_RT_PTXAS names one");
    };
    let jobs: Vec<(&Module, &'static str)> = MODULES
        .iter()
        .flat_map(|module| {
            let archs: &[&'static str] = match module.tier {
                Tier::Portable => &["sm_80", "sm_90"],
                // Hopper has tensor cores for e4m3 behind wgmma alone; ptxas computes these in f16.
                Tier::Sm89 => &["sm_89", "sm_120"],
                Tier::Sm90 => &["sm_90a"],
            };
            archs.iter().map(move |&arch| (module, arch))
        })
        .collect();
    let (next, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((module, arch)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = assemble(&ptxas, module, arch);
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap();
    reports.sort_by_key(|report| (report.op, report.arch));
    println!(
        "{:36} {:7} {:>9} {:>7} {:>7} {:>7}",
        "entry", "arch", "registers", "smem", "stack", "spills"
    );
    for report in &reports {
        for usage in &report.usages {
            let Usage { entry, registers, smem_bytes, stack_bytes, spill_bytes } = usage;
            println!(
                "{entry:36} {:7} {registers:9} {smem_bytes:7} {stack_bytes:7} {spill_bytes:7}",
                report.arch
            );
        }
    }
    for ((module, arch), report) in jobs.iter().map(|&(module, arch)| {
        let is_of = |report: &&Report| {
            (report.op, report.tier, report.arch) == (module.op, module.tier, arch)
        };
        let found = reports.iter().find(is_of);
        ((module, arch), found.unwrap())
    }) {
        assert_eq!(report.usages.len(), module.entries.len(), "{} on {arch}", module.op);
    }
    let complaints: Vec<_> = reports.iter().flat_map(complaints).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn what_ptxas_says_is_read_right() {
    let log = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'gemm' for 'sm_80'
ptxas info    : Function properties for gemm
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 254 registers, used 1 barriers, 49152 bytes smem, 416 bytes cmem[0]
ptxas info    : Compiling entry function 'gemm_small' for 'sm_80'
ptxas info    : Function properties for gemm_small
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, 380 bytes cmem[0]
ptxas warning : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized
";
    let usages = usages(log);
    let usage = |entry: &str, registers, smem_bytes, stack_bytes, spill_bytes| Usage {
        entry: entry.to_owned(),
        registers,
        smem_bytes,
        stack_bytes,
        spill_bytes,
    };
    assert_eq!(usages, [usage("gemm", 254, 49152, 16, 20), usage("gemm_small", 32, 0, 0, 0)]);
    let report = |op| Report {
        op,
        tier: Tier::Sm90,
        arch: "sm_90a",
        usages: usages.clone(),
        log: log.to_owned(),
    };
    assert_eq!(complaints(&report("gemm")).len(), 2);
    assert_eq!(complaints(&report("noise")).len(), 1);
}
