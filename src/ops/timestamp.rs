//! The time on the device, where a step begins and where it ends.
//!
//! Nanoseconds of the GPU's global timer; on the CPU since the process first asked. So steps can be
//! timed without the host looking. Oracle: `cpu/timestamp.rs`.

use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect;
use crate::ops::expect_shape;
use crate::ops::from_low_and_high;

const OP: &str = "timestamp";

/// Which end of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Before the step's work; the counter is the step's own number.
    Begin,
    /// After it; the counter has moved on by one.
    End,
}

/// Writes the time into `stamps [steps, 4]`, low word first: of step `s`, counted by `step [1]`, the
/// beginning into columns 0 and 1 of row `s`, the end into columns 2 and 3. Outside of the rows it
/// writes nothing.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn timestamp(stamps: &mut Tensor<u32, 2>, step: &Tensor<u32, 1>, edge: Edge) -> Result<()> {
    let [steps, columns] = stamps.shape();
    expect(OP, "stamps", columns == 4, || ("[steps, 4]".into(), format!("[{steps}, {columns}]")))?;
    expect_shape(OP, "step", step.shape(), [1])?;
    if let Device::Cuda(cuda) = stamps.device() {
        return cuda::timestamp::timestamp(&cuda, stamps, step, edge);
    }
    cpu::timestamp::timestamp(stamps.host_mut(), step.host()[0], edge);
    Ok(())
}

/// Beginning and end of each step in nanoseconds. Waits for the device.
///
/// # Errors
/// [`crate::Error::Cuda`].
pub fn read(stamps: &Tensor<u32, 2>) -> Result<Vec<[u64; 2]>> {
    let time = |words: &[u32]| from_low_and_high([words[0], words[1]]);
    let stamps = stamps.to_host()?;
    let steps = stamps.host().chunks_exact(4);
    Ok(steps.map(|words| [time(&words[..2]), time(&words[2..])]).collect())
}
