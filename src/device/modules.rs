//! The compiled kernels: PTX of every file of `kernels/`, made by `build/kernels.rs`.
//!
//! `kernels/X.cu` is the module of op X for every card since Ampere, `kernels/X_sm89.cu` one for those
//! that compute in e4m3, `kernels/X_sm90.cu` the one for Hopper. Without a CUDA compiler at build time
//! the table is empty and [`TOOLKIT`] is `None`.

/// The PTX of one `.cu` file.
#[derive(Debug)]
pub(crate) struct Module {
    /// The op that it serves, which has the file's name.
    pub(crate) op: &'static str,
    /// The cards that load it.
    pub(crate) tier: Tier,
    /// PTX text, no newer than driver 580 loads.
    pub(crate) ptx: &'static str,
    /// Names of its kernels, in the order of the PTX.
    pub(crate) entries: &'static [&'static str],
}

/// Which cards a module is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Tier {
    /// `compute_80`: every card since Ampere.
    Portable,
    /// `compute_89`: every card since Ada. The portable tier's kernels for e4m3: no card's own tier.
    #[allow(dead_code, reason = "built without an nvcc there is no kernel of it")]
    Sm89,
    /// `compute_90a`: H100 and H200 alone.
    Sm90,
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What `src/ops` holds beside ops.
    const NO_OPS: [&str; 3] = ["mod", "cpu", "cuda"];

    #[test]
    fn a_module_is_ptx_of_its_tier_with_the_entries_that_it_lists() {
        assert_eq!(TOOLKIT.is_some(), !MODULES.is_empty());
        for module in MODULES {
            let target = match module.tier {
                Tier::Portable => ".target sm_80",
                Tier::Sm89 => ".target sm_89",
                Tier::Sm90 => ".target sm_90a",
            };
            assert!(module.ptx.contains(target), "{}", module.op);
            assert!(!module.entries.is_empty(), "{}", module.op);
            for entry in module.entries {
                assert!(module.ptx.contains(&format!(".visible .entry {entry}(")), "{entry}");
            }
        }
    }

    #[test]
    fn each_entry_is_there_once() {
        let mut seen = BTreeSet::new();
        for entry in MODULES.iter().flat_map(|module| module.entries) {
            assert!(seen.insert(entry), "{entry} is there twice");
        }
    }

    #[test]
    fn every_op_has_a_portable_module_and_every_module_an_op() {
        if MODULES.is_empty() {
            return println!("skipped: built without a CUDA compiler");
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ops");
        let files = std::fs::read_dir(folder).unwrap();
        let ops: BTreeSet<_> = files
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|stem| !NO_OPS.contains(&stem.as_str()))
            .collect();
        let of_tier = |tier| -> BTreeSet<_> {
            let modules = MODULES.iter().filter(|module| module.tier == tier);
            modules.map(|module| module.op.to_owned()).collect()
        };
        assert_eq!(of_tier(Tier::Portable), ops);
        for op in of_tier(Tier::Sm89).union(&of_tier(Tier::Sm90)) {
            // Of e4m3 operands there is no module for every card.
            assert!(ops.contains(op.trim_end_matches("_fp8")), "{op}");
        }
    }

    #[test]
    fn no_path_of_the_machine_that_compiled_is_in_the_program() {
        for module in MODULES {
            for line in module.ptx.lines().filter(|line| line.trim_start().starts_with(".file")) {
                assert!(!line.contains("\"/"), "{}: {line}", module.op);
            }
        }
    }
}
