//! Faults on purpose, for tests of what comes of them.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Functions of the driver that take memory.
const ALLOCATING: [&str; 7] = [
    "cuGraphInstantiate",
    "cuLibraryLoadData",
    "cuMemAlloc",
    "cuMemHostAlloc",
    "cuModuleLoadData",
    "cuModuleLoadDataEx",
    "cuStreamCreate",
];

/// Has an allocation fail that would succeed: a buffer's, or one of the driver's for anything else.
#[derive(Debug)]
pub struct Faults {
    seen: AtomicUsize,
    /// Which fails; the largest number is none.
    at: AtomicUsize,
}

impl Default for Faults {
    fn default() -> Self {
        Self { seen: AtomicUsize::new(0), at: AtomicUsize::new(usize::MAX) }
    }
}

impl Faults {
    /// Counts from 0 again, and has allocation `k` fail, or none.
    pub fn fail_allocation(&self, k: Option<usize>) {
        self.at.store(k.unwrap_or(usize::MAX), Ordering::SeqCst);
        self.seen.store(0, Ordering::SeqCst);
    }

    /// How many allocations there were since.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// Counts an allocation; whether it fails.
    pub(super) fn strike(&self) -> bool {
        self.seen.fetch_add(1, Ordering::SeqCst) == self.at.load(Ordering::SeqCst)
    }

    /// As [`Self::strike`] for a call of the driver.
    pub(super) fn strike_call(&self, call: &str) -> bool {
        ALLOCATING.contains(&call) && self.strike()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allocation_fails() {
        let faults = Faults::default();
        faults.fail_allocation(Some(1));
        assert!(!faults.strike() && !faults.strike_call("cuLaunchKernel"));
        assert!(faults.strike_call("cuMemAlloc") && !faults.strike());
        assert_eq!(faults.allocations(), 3);
        faults.fail_allocation(None);
        assert!(!faults.strike() && faults.allocations() == 1);
    }
}
