//! The most memory at one time: of the GPU, or of this process where the CPU computes.

use crate::pipeline::Engine;

/// Starts to count anew, where the system can.
#[expect(clippy::disallowed_methods, reason = "a switch of the kernel's, not a file")]
pub(super) fn reset_peak(engine: &Engine) {
    engine.reset_peak_memory();
    // Linux: the process's peak becomes what it holds now. Elsewhere it stays, and is the peak so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// In bytes; none where the system does not say.
#[expect(clippy::disallowed_methods, reason = "what the kernel says, not a file")]
pub(super) fn peak(engine: &Engine) -> Option<u64> {
    if let Some(memory) = engine.gpu_memory() {
        return u64::try_from(memory.peak_bytes).ok();
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}
