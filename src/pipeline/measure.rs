//! What a bench asks an engine beside pictures.

use crate::device::Device;
use crate::device::Profile;
use crate::device::Profiled;
use crate::error::Result;
use crate::pipeline::Engine;
use crate::pipeline::Request;

/// GPU memory of an engine so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuMemory {
    /// The most bytes that were in use at one time: weights and activations.
    pub peak_bytes: usize,
    /// All bytes of the GPU that the engine holds now: buffers, kernels, the driver's own.
    pub held_bytes: usize,
    /// Bytes of modulation layers and of T5's blocks that wait in host memory.
    pub offloaded_bytes: [usize; 2],
    /// How often the driver was asked for memory.
    pub allocations: usize,
    /// Bytes that were copied from the host.
    pub uploaded_bytes: u64,
}

impl Engine {
    /// GPU memory; none on the CPU.
    #[must_use]
    pub fn gpu_memory(&self) -> Option<GpuMemory> {
        let Device::Cuda(cuda) = self.device() else { return None };
        let (allocations, peak_bytes) = cuda.memory();
        Some(GpuMemory {
            peak_bytes,
            held_bytes: cuda.held_bytes().ok()?,
            offloaded_bytes: self.fit.offloaded,
            allocations,
            uploaded_bytes: cuda.uploaded_bytes(),
        })
    }

    /// Has [`Engine::gpu_memory`] tell the peak from now on.
    pub fn reset_peak_memory(&self) {
        if let Device::Cuda(cuda) = self.device() {
            cuda.reset_peak_memory();
        }
    }

    /// Makes one image with every kernel launched and timed by itself, then one of one step to look at
    /// the inputs of matrix products; none on the CPU.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn profile(&mut self, request: &Request) -> Result<Option<Profile>> {
        let Device::Cuda(cuda) = self.device().clone() else { return Ok(None) };
        let mut profile = |profiled, request: &Request| {
            cuda.start_profile(profiled);
            let made = self.generate(request);
            let profile = cuda.finish_profile();
            made?;
            profile
        };
        let times = profile(Profiled::Times, request)?;
        // One step shows the sizes of all inputs; a cache may be meant for more.
        let one = Request { steps: Some(1), cache: None, ..request.clone() };
        let inputs = profile(Profiled::Inputs, &one)?;
        Ok(Some(Profile { kernels: times.kernels, inputs: inputs.inputs }))
    }
}
